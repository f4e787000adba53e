//! Bytes from the kernel to typed values. Pure; fuzzed; never panics on any input.

use crate::{
    EXEC_ARGV_TRUNCATED, EXEC_MEMBER, EXEC_NAME_TRUNCATED, ExecHeader, ExitEvent, Header, Kind, LiveRow,
    MoveEvent, ProcessKey, Record, TaskRow,
};

/// A ring entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A process executed a program that the pre-filter knows.
    Exec(Exec),
    /// A first process ended.
    Exit(ExitEvent),
    /// A job's last process ended.
    Drained(ExitEvent),
    /// A process of a job was moved.
    Move(MoveEvent),
}

/// An exec with its strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The fixed part.
    pub header: ExecHeader,
    /// Path as typed.
    pub filename: Vec<u8>,
    /// Arguments, split at their NULs.
    pub argv: Vec<Vec<u8>>,
    /// Whether the kernel had to cut argv.
    pub argv_truncated: bool,
    /// Whether the kernel had to cut the filename.
    pub filename_truncated: bool,
    /// Whether the process belonged to the job before this exec.
    pub member: bool,
}

/// Why bytes are no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the fixed part needs.
    #[error("entry of {got} bytes is shorter than its fixed part of {want}")]
    Short {
        /// Bytes there.
        got: usize,
        /// Bytes needed.
        want: usize,
    },
    /// A kind this governor does not know.
    #[error("unknown entry kind {0}")]
    UnknownKind(u32),
    /// The lengths inside do not add up to the entry's.
    #[error("lengths inside the entry ({inner}) exceed its {got} bytes")]
    Lengths {
        /// Sum of the lengths.
        inner: usize,
        /// Bytes there.
        got: usize,
    },
}

/// Types whose every bit pattern is valid and that have no padding.
///
/// # Safety
/// Only `repr(C)` structs of integers without implicit padding may implement this.
pub unsafe trait Plain: Copy {}
// SAFETY: repr(C), integers only, sizes asserted beside each type.
unsafe impl Plain for Header {}
// SAFETY: as above.
unsafe impl Plain for ExecHeader {}
// SAFETY: as above.
unsafe impl Plain for ExitEvent {}
// SAFETY: as above.
unsafe impl Plain for MoveEvent {}
// SAFETY: as above.
unsafe impl Plain for Record {}
// SAFETY: as above.
unsafe impl Plain for LiveRow {}
// SAFETY: as above.
unsafe impl Plain for TaskRow {}
// SAFETY: as above.
unsafe impl Plain for ProcessKey {}

/// Copies a value from the front of `bytes`.
pub fn read<T: Plain>(bytes: &[u8]) -> Result<T, DecodeError> {
    let want = size_of::<T>();
    if bytes.len() < want {
        return Err(DecodeError::Short {
            got: bytes.len(),
            want,
        });
    }
    // SAFETY: the length was checked, `T: Plain` accepts every bit pattern, and the read is unaligned.
    Ok(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The bytes of a value.
pub fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: `T: Plain` has no padding, so every byte is initialised.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) }
}

/// Reads one ring entry.
pub fn entry(bytes: &[u8]) -> Result<Entry, DecodeError> {
    let header: Header = read(bytes)?;
    match header.kind {
        kind if kind == Kind::Exec as u32 => exec(bytes).map(Entry::Exec),
        kind if kind == Kind::Exit as u32 => read(bytes).map(Entry::Exit),
        kind if kind == Kind::Drained as u32 => read(bytes).map(Entry::Drained),
        kind if kind == Kind::Move as u32 => read(bytes).map(Entry::Move),
        other => Err(DecodeError::UnknownKind(other)),
    }
}

fn exec(bytes: &[u8]) -> Result<Exec, DecodeError> {
    let header: ExecHeader = read(bytes)?;
    let start = size_of::<ExecHeader>();
    let name_end = start.saturating_add(header.filename_len as usize);
    let argv_end = name_end.saturating_add(header.argv_len as usize);
    let lengths = || DecodeError::Lengths {
        inner: argv_end,
        got: bytes.len(),
    };
    let filename = bytes.get(start..name_end).ok_or_else(lengths)?.to_vec();
    let argv = bytes.get(name_end..argv_end).ok_or_else(lengths)?;
    Ok(Exec {
        filename,
        argv: split_argv(argv),
        argv_truncated: header.flags & EXEC_ARGV_TRUNCATED != 0,
        filename_truncated: header.flags & EXEC_NAME_TRUNCATED != 0,
        member: header.flags & EXEC_MEMBER != 0,
        header,
    })
}

/// Splits what the kernel keeps between `arg_start` and `arg_end`: each argument ends with a NUL; a cut one does not.
pub fn split_argv(bytes: &[u8]) -> Vec<Vec<u8>> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let body = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    body.split(|&b| b == 0).map(<[u8]>::to_vec).collect()
}

/// The text before the first NUL of a fixed field, made into UTF-8 with replacement characters.
pub fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(filename: &[u8], argv: &[u8], flags: u32) -> Vec<u8> {
        let key = ProcessKey::new(7, 9);
        let len = (size_of::<ExecHeader>() + filename.len() + argv.len()) as u32;
        let header = ExecHeader {
            header: Header {
                kind: Kind::Exec as u32,
                len,
                at_ns: 1,
                key,
                root: key,
            },
            ppid: 1,
            uid: 0,
            cgroup: 1,
            place: 2,
            exec_seq: 1,
            name: 1,
            flags,
            filename_len: filename.len() as u32,
            argv_len: argv.len() as u32,
            pad: 0,
        };
        let mut bytes = bytes_of(&header).to_vec();
        bytes.extend_from_slice(filename);
        bytes.extend_from_slice(argv);
        bytes
    }

    #[test]
    fn an_exec_comes_back_with_its_arguments() {
        let bytes = encode(b"/usr/bin/ffmpeg", b"ffmpeg\0-i\0\0x\0", EXEC_MEMBER);
        let Ok(Entry::Exec(exec)) = entry(&bytes) else {
            panic!("no exec")
        };
        assert_eq!(exec.filename, b"/usr/bin/ffmpeg");
        assert_eq!(exec.argv, [&b"ffmpeg"[..], b"-i", b"", b"x"]);
        assert!(exec.member && !exec.argv_truncated);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let mut bytes = encode(b"/x", b"x\0", 0);
        bytes.truncate(bytes.len() - 1);
        assert!(matches!(entry(&bytes), Err(DecodeError::Lengths { .. })));
        assert!(matches!(entry(&bytes[..10]), Err(DecodeError::Short { .. })));
        bytes[0] = 99;
        assert_eq!(entry(&bytes), Err(DecodeError::UnknownKind(99)));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512), kind in 0u32..6) {
            let mut bytes = bytes;
            if bytes.len() >= 4 { bytes[..4].copy_from_slice(&kind.to_le_bytes()); }
            let _ = entry(&bytes).is_ok();
        }

        #[test]
        fn arguments_survive_the_trip(args in proptest::collection::vec(proptest::collection::vec(1u8.., 0..20), 1..10)) {
            let mut raw = Vec::new();
            for arg in &args { raw.extend_from_slice(arg); raw.push(0); }
            let Ok(Entry::Exec(exec)) = entry(&encode(b"/bin/x", &raw, 0)) else { panic!("no exec") };
            prop_assert_eq!(exec.argv, args);
        }
    }
}
