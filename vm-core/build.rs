//! Embeds SeaBIOS and its VGA BIOS where the build finds them, so that the program runs on a host without them.
//!
//! Looked for in the folder that `HAKO_FIRMWARE` names, then where distributions install them. Where one of the files is
//! missing the build goes on without; the program then looks for it when it starts.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// File name, and the configuration switch that says it is embedded.
const FILES: [(&str, &str); 2] = [("bios-256k.bin", "embedded_bios"), ("vgabios-stdvga.bin", "embedded_vga_bios")];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/firmware/folders.txt");
    println!("cargo::rerun-if-env-changed=HAKO_FIRMWARE");
    let list = fs::read_to_string("src/firmware/folders.txt").unwrap_or_default();
    let chosen = env::var_os("HAKO_FIRMWARE").map(PathBuf::from);
    let folders: Vec<PathBuf> = chosen.into_iter().chain(list.lines().map(PathBuf::from)).collect();
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    for (name, switch) in FILES {
        println!("cargo::rustc-check-cfg=cfg({switch})");
        if let Some(found) = folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file())
            && embed(&found, &out.join(name))
        {
            println!("cargo::rustc-cfg={switch}");
        }
    }
}

/// Copies the firmware; whether that went well.
fn embed(from: &Path, to: &Path) -> bool {
    println!("cargo::rerun-if-changed={}", from.display());
    match fs::read(from).and_then(|bytes| fs::write(to, bytes)) {
        Ok(()) => true,
        Err(error) => {
            println!("cargo::warning={} is not embedded: {error}", from.display());
            false
        }
    }
}
