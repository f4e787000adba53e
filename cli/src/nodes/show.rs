//! Nodes as rows and columns. What a node says of itself is another machine's text.

use ffrtmp_api::Node;

use crate::args::Format;
use crate::failure::Failure;
use crate::output::{Output, Rows, bytes, harmless, or_dash, second};

/// A row for each node.
pub(super) fn rows(nodes: &[Node]) -> Rows {
    let mut rows = Rows::new(&["ID", "NAME", "STATUS", "TYPE", "SLOTS", "CPU", "GPU", "HEARD"]).wide(&[
        "ADDRESS",
        "LOAD",
        "RAM",
        "RAM FREE",
        "ENGINES",
        "ENCODERS",
        "LABELS",
        "BLOCKED",
        "VERSION",
        "REGISTERED",
    ]);
    for node in nodes {
        let info = &node.info;
        rows.push(vec![
            node.id.to_string(),
            or_dash(info.name.as_deref(), harmless),
            node.status.to_string(),
            said(&info.kind),
            slots(node),
            cpu(node),
            gpu(node),
            or_dash(node.last_heartbeat, second),
            said(&info.address),
            or_dash(node.load.cpu_load_percent, |percent| format!("{percent:.0}%")),
            ram(info.ram_total_bytes),
            or_dash(node.load.ram_free_bytes, bytes),
            engines(node),
            or_dash(info.encoders.as_ref(), |all| harmless(&all.join(" "))),
            labels(node),
            node.blocked.len().to_string(),
            or_dash(info.version.as_deref(), harmless),
            second(node.registered_at),
        ]);
    }
    rows
}

/// One node in the chosen form.
pub(super) fn one(node: &Node, output: &mut Output) -> Result<(), Failure> {
    match output.format() {
        Format::Json => return Ok(output.json(node)?),
        Format::Csv => return Ok(output.rows(&rows(std::slice::from_ref(node)))?),
        _ => {}
    }
    let info = &node.info;
    let jobs: Vec<_> = node.job_ids.iter().map(ToString::to_string).collect();
    let mut rows = Rows::new(&["PROPERTY", "VALUE"]);
    let mut put = |property: &str, value: String| rows.push(vec![property.to_owned(), value]);
    put("Node ID", node.id.to_string());
    put("Name", or_dash(info.name.as_deref(), harmless));
    put("Address", said(&info.address));
    put("Type", said(&info.kind));
    put("Status", node.status.to_string());
    put("Slots", slots(node));
    put("CPU", cpu(node));
    put(
        "CPU Load",
        or_dash(node.load.cpu_load_percent, |percent| format!("{percent:.0}%")),
    );
    put("GPU", gpu(node));
    put("GPU Capabilities", said(&info.gpu_capabilities.join(", ")));
    put("Total RAM", ram(info.ram_total_bytes));
    put("Free RAM", or_dash(node.load.ram_free_bytes, bytes));
    put("Engines", engines(node));
    put(
        "Encoders",
        or_dash(info.encoders.as_ref(), |all| harmless(&all.join(", "))),
    );
    put("Labels", labels(node));
    put("Version", or_dash(info.version.as_deref(), harmless));
    put("Last Heartbeat", or_dash(node.last_heartbeat, second));
    put("Registered At", second(node.registered_at));
    put("Active Jobs", said(&jobs.join(", ")));
    for blocked in &node.blocked {
        put(
            "Not Given",
            format!(
                "{} for {} s more, after {} failures of the platform",
                harmless(&blocked.class),
                blocked.for_sec,
                blocked.strikes
            ),
        );
    }
    output.rows(&rows)?;
    Ok(())
}

fn said(text: &str) -> String {
    or_dash(Some(text).filter(|text| !text.is_empty()), harmless)
}

fn slots(node: &Node) -> String {
    format!("{}/{}", node.slots_used, node.info.slots())
}

fn cpu(node: &Node) -> String {
    let threads = or_dash(
        Some(node.info.cpu_threads).filter(|threads| *threads > 0),
        |threads| format!("{threads} threads"),
    );
    match node.info.cpu_model.as_str() {
        "" => threads,
        model => format!("{} ({threads})", harmless(model)),
    }
}

fn gpu(node: &Node) -> String {
    match (node.info.has_gpu, node.info.gpu_type.as_str()) {
        (false, _) => "-".to_owned(),
        (true, "") => "yes".to_owned(),
        (true, kind) => harmless(kind),
    }
}

fn ram(total: u64) -> String {
    or_dash(Some(total).filter(|total| *total > 0), bytes)
}

fn engines(node: &Node) -> String {
    or_dash(node.info.engines.as_ref(), |all| {
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    })
}

fn labels(node: &Node) -> String {
    let all: Vec<_> = node
        .info
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    said(&all.join(" "))
}
