//! A Prometheus of the rig's own, Debian's: it scrapes the daemon each second, knows its alert rules, and is asked by its API.
//!
//! Promises: it is gone when it is dropped. Must not: know what is to be found.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::wait::DEADLINE;
use super::{Result, Rig, listening, unpacked, wait};

const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/alerts.yml");

pub(crate) struct Prometheus {
    process: Child,
    port: u16,
}

impl Prometheus {
    /// Starts one that scrapes a port of 127.0.0.1, in a folder of its own under `parent`.
    pub(crate) fn start(rig: &Rig, parent: &Path, scraped: u16) -> Result<Prometheus> {
        let folder = parent.join("prometheus");
        let failed = |e: std::io::Error| format!("prometheus: {e}");
        fs::create_dir_all(&folder).map_err(failed)?;
        let config = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files:\n  - {ALERTS}\nscrape_configs:\n  \
             - job_name: encr-milter\n    static_configs:\n      - targets: [\"127.0.0.1:{scraped}\"]\n"
        );
        fs::write(folder.join("prometheus.yml"), config).map_err(failed)?;
        let port = rig.port();
        let output = fs::File::create(folder.join("output")).map_err(failed)?;
        let mut process = Command::new(unpacked("prometheus-root")?.join("usr/bin/prometheus"))
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .map_err(failed)?;
        let ready = wait::until("Prometheus to listen", || {
            let gone = process.try_wait().ok().flatten();
            gone.map(Err).or_else(|| listening::tcp((Ipv4Addr::LOCALHOST, port).into()).then_some(Ok(())))
        });
        let prometheus = Prometheus { process, port };
        match ready? {
            Ok(()) => Ok(prometheus),
            Err(status) => {
                let said = fs::read_to_string(folder.join("output")).unwrap_or_default();
                Err(format!("Prometheus ended at once, {status}: {said}"))
            }
        }
    }

    /// What a query finds now.
    pub(crate) fn query(&self, query: &str) -> Result<Vec<Value>> {
        let answer = self.api(&format!("query?query={}", escaped(query)))?;
        match answer.pointer("/data/result") {
            Some(Value::Array(found)) => Ok(found.clone()),
            _ => Err(format!("{query}: {answer}")),
        }
    }

    /// The one number that a query finds; nothing where it finds none.
    pub(crate) fn number(&self, query: &str) -> Result<Option<f64>> {
        let found = self.query(query)?;
        let value = found.first().and_then(|series| series.pointer("/value/1"));
        Ok(value.and_then(Value::as_str).and_then(|text| text.parse().ok()))
    }

    /// What a path of the API answers.
    pub(crate) fn api(&self, path: &str) -> Result<Value> {
        let body = get(self.port, &format!("/api/v1/{path}"))?;
        serde_json::from_str(&body).map_err(|e| format!("{path}: {e}: {body}"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `promtool` with these arguments.
pub(crate) fn promtool(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(promtool_path()?);
    command.args(arguments);
    Ok(command)
}

fn promtool_path() -> Result<PathBuf> {
    Ok(unpacked("prometheus-root")?.join("usr/bin/promtool"))
}

/// Gets a page of a port of 127.0.0.1, whatever its status.
pub(crate) fn get(port: u16, path: &str) -> Result<String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|e| format!("GET {path}: {e}"))?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("GET {path}: {answer}"))?;
    Ok(body.to_owned())
}

/// Bytes that may stand in a query as they are; all others escaped.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let escape = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(escape).collect()
}
