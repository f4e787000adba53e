//! Where this kernel keeps its fields, and which prototypes its tracepoints have.
//!
//! Rust emits no CO-RE relocations, so the offsets are looked up in the running kernel's BTF and given to the programs
//! as read-only globals. A field that is missing switches its feature off; it never defaults to offset 0.

use std::path::Path;

use btf_rs::{Btf, BtfType, Member, Type};
use ffrtmp_abi::offset;

use super::KernelError;

/// What the running kernel's BTF says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Offset of each field of [`offset::ALL`], in that order; 0 for a missing one.
    pub offsets: Vec<(&'static str, u32)>,
    /// Number of controllers.
    pub controllers: u32,
    /// Missing fields, as `type.path`.
    pub missing: Vec<String>,
    /// Whether `sched_process_exit` carries `group_dead`.
    pub exit_has_group_dead: bool,
}

/// Fields without which a feature is lost but accounting and discovery still work.
const OPTIONAL: &[(&str, &str)] = &[
    (
        "OFF_SIGNAL_OOM_MM",
        "out-of-memory kills cannot be told from other SIGKILLs",
    ),
    (
        "OFF_SIGINFO_CODE",
        "signals from the kernel cannot be told from a process's",
    ),
    ("OFF_TASK_READ", "read bytes are not counted"),
    ("OFF_TASK_WRITE", "written bytes are not counted"),
    ("OFF_TASK_CANCELLED", "cancelled writes are counted as written"),
    ("OFF_SIGNAL_READ", "bytes read before an attach are not counted"),
    (
        "OFF_SIGNAL_WRITE",
        "bytes written before an attach are not counted",
    ),
    (
        "OFF_SIGNAL_CANCELLED",
        "writes cancelled before an attach are counted as written",
    ),
];

impl Layout {
    /// Reads the BTF of the running kernel.
    pub fn read(path: &Path) -> Result<Self, KernelError> {
        if !path.exists() {
            return Err(KernelError::NoBtf {
                path: path.to_owned(),
            });
        }
        let failed = |why: String| KernelError::Btf {
            path: path.to_owned(),
            why,
        };
        // Read whole: parsed from the file, each type costs two seeks, a tenth of the whole start.
        let bytes = std::fs::read(path).map_err(|source| failed(source.to_string()))?;
        let btf = Btf::from_bytes(&bytes).map_err(|source| failed(source.to_string()))?;
        let mut offsets = Vec::with_capacity(offset::ALL.len());
        let mut missing = Vec::new();
        for &(symbol, type_name, field) in offset::ALL {
            let found = field_offset(&btf, type_name, field);
            if found.is_none() {
                missing.push(format!("{type_name}.{field}"));
                if !OPTIONAL.iter().any(|(optional, _)| *optional == symbol) {
                    return Err(KernelError::MissingField {
                        field: format!("{type_name}.{field}"),
                    });
                }
            }
            offsets.push((symbol, found.unwrap_or(0)));
        }
        let controllers =
            array_length(&btf, "css_set", "subsys").ok_or_else(|| KernelError::MissingField {
                field: "css_set.subsys".to_owned(),
            })?;
        let exit_has_group_dead = tracepoint_arguments(&btf, "sched_process_exit")? >= 2;
        Ok(Self {
            offsets,
            controllers,
            missing,
            exit_has_group_dead,
        })
    }

    /// What is off because of missing fields, a sentence each.
    pub fn off(&self) -> Vec<String> {
        self.offsets
            .iter()
            .filter(|(_, offset)| *offset == 0)
            .filter_map(|(symbol, _)| OPTIONAL.iter().find(|(optional, _)| optional == symbol))
            .map(|(_, what)| format!("{what}: this kernel has no such field"))
            .collect()
    }
}

/// Byte offset of `path` (dots between nested fields) in a struct. Anonymous structs and unions are looked through.
fn field_offset(btf: &Btf, type_name: &str, path: &str) -> Option<u32> {
    let mut container = btf
        .resolve_types_by_name(type_name)
        .ok()?
        .into_iter()
        .find(|kind| matches!(kind, Type::Struct(_) | Type::Union(_)))?;
    let mut bits = 0;
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        let (offset, member) = find_member(btf, &container, part)?;
        bits += offset;
        if parts.peek().is_some() {
            container = strip(btf, &member)?;
        }
    }
    (bits % 8 == 0).then_some(bits / 8)
}

/// Number of elements of a struct's array.
fn array_length(btf: &Btf, type_name: &str, field: &str) -> Option<u32> {
    let types = btf.resolve_types_by_name(type_name).ok()?;
    let body = types.into_iter().find(|kind| matches!(kind, Type::Struct(_)))?;
    match strip(btf, &find_member(btf, &body, field)?.1)? {
        Type::Array(array) => u32::try_from(array.len()).ok(),
        _ => None,
    }
}

fn find_member(btf: &Btf, container: &Type, name: &str) -> Option<(u32, Member)> {
    let (Type::Struct(body) | Type::Union(body)) = container else {
        return None;
    };
    for member in &body.members {
        let member_name = btf.resolve_name(member).unwrap_or_default();
        if member_name == name {
            return Some((member.bit_offset(), member.clone()));
        }
        if member_name.is_empty()
            && let Some(inner) = strip(btf, member)
            && let Some((offset, found)) = find_member(btf, &inner, name)
        {
            return Some((member.bit_offset() + offset, found));
        }
    }
    None
}

/// The type behind typedefs and qualifiers.
fn strip(btf: &Btf, of: &dyn BtfType) -> Option<Type> {
    let mut kind = btf.resolve_type_by_id(of.get_type_id()?).ok()?;
    loop {
        let next = match &kind {
            Type::Typedef(_) | Type::Const(_) | Type::Volatile(_) | Type::Restrict(_) | Type::TypeTag(_) => {
                kind.as_btf_type().and_then(BtfType::get_type_id)
            }
            _ => return Some(kind),
        };
        kind = btf.resolve_type_by_id(next?).ok()?;
    }
}

/// How many arguments the tracepoint hands to a program. Its `btf_trace_*` typedef points to a prototype whose first
/// parameter is the tracepoint's own data.
fn tracepoint_arguments(btf: &Btf, name: &str) -> Result<usize, KernelError> {
    let missing = || KernelError::MissingTracepoint {
        name: name.to_owned(),
    };
    let typedef = btf
        .resolve_types_by_name(&format!("btf_trace_{name}"))
        .map_err(|_| missing())?
        .into_iter()
        .next()
        .ok_or_else(missing)?;
    let Type::Typedef(typedef) = typedef else {
        return Err(missing());
    };
    let pointer = btf.resolve_chained_type(&typedef).map_err(|_| missing())?;
    let Type::Ptr(pointer) = pointer else {
        return Err(missing());
    };
    match btf.resolve_chained_type(&pointer).map_err(|_| missing())? {
        Type::FuncProto(prototype) => Ok(prototype.parameters.len().saturating_sub(1)),
        _ => Err(missing()),
    }
}
