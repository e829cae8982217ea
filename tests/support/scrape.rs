//! A scraper of metrics: asks over HTTP, and reads what it is answered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::within;

/// What a scrape found.
#[derive(Debug, Clone)]
pub struct Scrape {
    /// By name and labels, as they are written: `halyard_streams_open{kind="items"}`.
    samples: BTreeMap<String, f64>,
    /// The families: what kind of metric each is.
    pub types: BTreeMap<String, String>,
    /// What the families mean.
    pub help: BTreeMap<String, String>,
}

impl Scrape {
    /// Scrapes.
    pub async fn of(address: SocketAddr) -> Self {
        let answer = ask(address, "GET /metrics HTTP/1.1\r\nHost: it\r\n\r\n").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(
            head.contains("application/openmetrics-text; version=1.0.0; charset=utf-8"),
            "{head}"
        );
        Self::read(body)
    }

    /// Scrapes what may be gone. `None`: it is, or does not say all of it.
    pub async fn attempt(address: SocketAddr) -> Option<Self> {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = b"GET /metrics HTTP/1.1\r\nHost: it\r\n\r\n";
        stream.write_all(request).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        body.ends_with("# EOF\n").then(|| Self::read(body))
    }

    /// Reads what OpenMetrics text says.
    pub fn read(text: &str) -> Self {
        assert!(text.ends_with("# EOF\n"), "{text}");
        let (mut samples, mut types, mut help) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for line in text.lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let (name, kind) = family.split_once(' ').unwrap();
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            } else if let Some(family) = line.strip_prefix("# HELP ") {
                let (name, words) = family.split_once(' ').unwrap();
                help.insert(name.to_owned(), words.to_owned());
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(
                    samples.insert(name.to_owned(), value.parse().unwrap()).is_none(),
                    "{name} twice"
                );
            }
        }
        Self { samples, types, help }
    }

    /// The value of a sample.
    pub fn value(&self, name: &str) -> f64 {
        let value = self.samples.get(name);
        *value.unwrap_or_else(|| panic!("{name} is not among {:#?}", self.samples.keys()))
    }

    /// A count.
    pub fn count(&self, name: &str) -> u64 {
        let value = self.value(name);
        assert!(value >= 0.0 && value.fract() == 0.0, "{name} is {value}");
        format!("{value}").parse().unwrap()
    }

    /// The sum of a metric's samples that have this among their labels: `code="OK"`.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        let of_it = |(sample, value): (&String, &f64)| {
            let labels = sample.strip_prefix(name)?.strip_prefix('{')?;
            labels.contains(label).then_some(*value)
        };
        self.samples.iter().filter_map(of_it).sum()
    }

    /// Whether any sample has this in its name or its labels.
    pub fn tells(&self, text: &str) -> bool {
        self.samples.keys().any(|sample| sample.contains(text))
    }

    /// By how much a count has risen since.
    pub fn since(&self, before: &Self, name: &str) -> u64 {
        self.count(name) - before.count(name)
    }

    /// Every name of a sample, with the labels that it has and their values.
    pub fn names(&self) -> BTreeMap<String, BTreeSet<(String, String)>> {
        let mut names: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for sample in self.samples.keys() {
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let labels = labels
                .trim_end_matches('}')
                .split(',')
                .filter(|label| !label.is_empty());
            let labels = labels.map(|label| {
                let (label, value) = label.split_once('=').unwrap();
                (label.to_owned(), value.trim_matches('"').to_owned())
            });
            names.entry(name.to_owned()).or_default().extend(labels);
        }
        names
    }
}

/// Sends a request, and returns all that is answered before the connection ends, however it does.
pub async fn ask(address: SocketAddr, request: &str) -> String {
    let answering = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    within("an answer", answering).await
}
