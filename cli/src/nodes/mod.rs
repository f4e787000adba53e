//! `ffrtmp nodes`: what a scheduler knows of its nodes, and what an operator wants of them.

mod drain;
mod show;

use std::time::Duration;

use clap::{Args, Subcommand};
use ffrtmp_api::{Node, NodeId, NodeList, NodeRemoved};
use reqwest::Method;

use crate::args::Format;
use crate::client::Client;
use crate::client::args::Remote;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output::Output;

/// `nodes` and its verbs.
#[derive(Debug, Args)]
pub struct NodesArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: NodesVerb,
    /// Which scheduler.
    #[command(flatten)]
    pub remote: Remote,
}

/// Verbs of `nodes`.
#[derive(Debug, Subcommand)]
pub enum NodesVerb {
    /// List nodes
    List,
    /// Show one node
    Describe(NodeArgs),
    /// Give it no new work, because it is about to leave; what it runs goes on
    Drain(DrainArgs),
    /// Give it no new work until it is resumed
    Cordon(NodeArgs),
    /// Give it work again
    Resume(NodeArgs),
    /// Forget a node without work, and shut it out
    Remove(NodeArgs),
}

/// A node.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The node's id
    #[arg(value_name = "NODE")]
    pub node: NodeId,
}

/// A node that is to leave.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Stay until it has no work left
    #[arg(long)]
    pub wait: bool,
    /// Wait this long at most, such as 30m; work that is left then goes on [default: as long as it takes]
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
}

/// Does what was typed.
pub async fn nodes(args: NodesArgs, output: &mut Output) -> Result<ExitCode, Failure> {
    let client = Client::open(&args.remote)?;
    match &args.verb {
        NodesVerb::List => {
            let mut list: NodeList = client.get(&["nodes"], &[]).await?;
            list.nodes.sort_by(|one, other| one.id.cmp(&other.id));
            if output.format() == Format::Json {
                output.json(&list)?;
            } else {
                output.rows(&show::rows(&list.nodes))?;
                output.talk(&format!("Nodes: {}", list.count));
            }
        }
        NodesVerb::Describe(NodeArgs { node }) => {
            let node: Node = client.get(&["nodes", node.as_str()], &[]).await?;
            show::one(&node, output)?;
        }
        NodesVerb::Drain(args) if args.wait => return drain::wait(&client, args, output).await,
        NodesVerb::Drain(args) => intend(&client, &args.node.node, "drain", output).await?,
        NodesVerb::Cordon(NodeArgs { node }) => intend(&client, node, "cordon", output).await?,
        NodesVerb::Resume(NodeArgs { node }) => intend(&client, node, "resume", output).await?,
        NodesVerb::Remove(NodeArgs { node }) => {
            let path = ["nodes", node.as_str()];
            let removed: NodeRemoved = client.order(Method::DELETE, &path, None::<&()>).await?;
            if output.format() == Format::Json {
                output.json(&removed)?;
            } else {
                output.line(&format!("Node {}: {}", removed.node_id, removed.status))?;
            }
        }
    }
    Ok(ExitCode::Success)
}

async fn intend(client: &Client, node: &NodeId, intent: &str, output: &mut Output) -> Result<(), Failure> {
    let node = ordered(client, node, intent).await?;
    told(&node, output)
}

async fn ordered(client: &Client, node: &NodeId, intent: &str) -> Result<Node, Failure> {
    let path = ["nodes", node.as_str(), intent];
    Ok(client.order(Method::POST, &path, None::<&()>).await?)
}

/// What became of a node.
fn told(node: &Node, output: &mut Output) -> Result<(), Failure> {
    match output.format() {
        Format::Json => output.json(node)?,
        Format::Csv => output.rows(&show::rows(std::slice::from_ref(node)))?,
        _ => output.line(&format!("Node {} is {}; {}", node.id, node.status, left(node)))?,
    }
    Ok(())
}

/// What a node still has to do.
fn left(node: &Node) -> String {
    match node.job_ids.len() {
        0 => "it has no work".to_owned(),
        1 => "1 job goes on there".to_owned(),
        jobs => format!("{jobs} jobs go on there"),
    }
}
