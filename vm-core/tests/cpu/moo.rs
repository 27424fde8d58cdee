//! Files of single-instruction tests in MOO format (the `SingleStepTests` corpus), gzipped.

use std::io::Read;
use std::path::Path;

/// Register names in the order of a `REGS` chunk.
pub const REGISTERS: [&str; 14] =
    ["ax", "bx", "cx", "dx", "cs", "ss", "ds", "es", "sp", "bp", "si", "di", "ip", "flags"];

/// Registers and memory before or after an instruction.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// By number in [`REGISTERS`]; what is not mentioned is `None`.
    pub registers: [Option<u16>; 14],
    pub memory: Vec<(u32, u8)>,
}

/// One test.
#[derive(Clone, Debug, Default)]
pub struct Test {
    pub index: u32,
    pub name: String,
    pub bytes: Vec<u8>,
    pub before: State,
    /// What differs after it, and after the HLT behind it.
    pub after: State,
    /// Vector of the exception that it raised, and where the flags were pushed.
    pub exception: Option<(u8, u32)>,
}

/// All tests of a file.
pub fn read(path: &Path) -> Result<Vec<Test>, String> {
    let fail = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let file = std::fs::File::open(path).map_err(|error| fail(&error))?;
    let mut data = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut data).map_err(|error| fail(&error))?;
    let mut tests = Vec::new();
    for (tag, body) in chunks(&data) {
        if tag == b"TEST" {
            tests.push(test(body).ok_or_else(|| fail(&format!("test {} is damaged", tests.len())))?);
        }
    }
    Ok(tests)
}

/// The chunks in `data`; a cut-off one ends them.
fn chunks(mut data: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (tag, rest) = data.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        data = rest;
        Some((tag, body))
    })
}

fn dword(data: &[u8]) -> Option<u32> {
    data.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn test(body: &[u8]) -> Option<Test> {
    let mut test = Test { index: dword(body)?, ..Test::default() };
    for (tag, body) in chunks(body.get(4..)?) {
        match tag {
            b"NAME" => test.name = String::from_utf8_lossy(body.get(4..)?).into_owned(),
            b"BYTS" => test.bytes = body.get(4..)?.to_vec(),
            b"INIT" => test.before = state(body)?,
            b"FINA" => test.after = state(body)?,
            b"EXCP" => test.exception = Some((*body.first()?, dword(body.get(1..)?)?)),
            _ => {}
        }
    }
    Some(test)
}

fn state(body: &[u8]) -> Option<State> {
    let mut state = State::default();
    for (tag, body) in chunks(body) {
        match tag {
            b"REGS" => {
                let mut words = body.chunks_exact(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
                let mask = words.next()?;
                for (n, register) in state.registers.iter_mut().enumerate() {
                    if mask >> n & 1 != 0 {
                        *register = Some(words.next()?);
                    }
                }
            }
            b"RAM " => {
                let entries = body.get(4..)?.chunks_exact(5);
                state.memory = entries.map(|entry| dword(entry).map(|at| (at, entry[4]))).collect::<Option<_>>()?;
                (state.memory.len() == dword(body)? as usize).then_some(())?;
            }
            _ => {}
        }
    }
    Some(state)
}
