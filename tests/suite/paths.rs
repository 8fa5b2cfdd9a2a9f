//! Photos by their paths: from the disk, and from a little S3 of our own that misbehaves on demand.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use pomona::decode::Format;
use pomona::storage::{Credentials, Location, ReadOptions, S3Settings, Settings};
use pomona::{Error, Features, Featurizer, ImageError, PathFeaturizer, Result};
use proptest::prelude::*;

use crate::featurizer::{Row, featurize, open, rows};
use crate::samples::{FORMATS, cases, encoded};

const BUCKET: &str = "orchard";
/// Less than a test should wait, and more than a loaded machine takes for an answer.
const SHORT: Duration = Duration::from_secs(8);

/// What the server does when it is asked for a key, by how often it was.
type Answer = dyn Fn(&str, usize) -> Reply + Send + Sync;

pub enum Reply {
    Whole(Vec<u8>),
    /// As many bytes as these, and then the end of the connection.
    Cut(Vec<u8>, usize),
    /// All of it, and behind its end bytes that nobody asked for.
    Longer(Vec<u8>, Vec<u8>),
    Refusal(u16, &'static str),
    /// Nothing, ever.
    Silence,
}

/// A server for tests, on a port of its own, until the process ends.
pub struct Server {
    port: u16,
    at_once: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
}

impl Server {
    pub fn start(answer: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let server = Self {
            port,
            at_once: Arc::default(),
            most_at_once: Arc::default(),
        };
        let answer: Arc<Answer> = Arc::new(answer);
        let asked: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let counters = (server.at_once.clone(), server.most_at_once.clone());
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (answer, asked, counters) = (answer.clone(), asked.clone(), counters.clone());
                thread::spawn(move || serve(connection, &*answer, &asked, &counters));
            }
        });
        server
    }

    pub fn settings(&self) -> Settings {
        Settings {
            default: S3Settings {
                endpoint: Some(format!("http://127.0.0.1:{}", self.port)),
                credentials: Credentials::Anonymous,
                path_style: true,
                ..S3Settings::default()
            },
            buckets: HashMap::new(),
        }
    }
}

fn serve(
    mut connection: TcpStream,
    answer: &Answer,
    asked: &Mutex<HashMap<String, usize>>,
    (at_once, most): &(Arc<AtomicUsize>, Arc<AtomicUsize>),
) -> Option<()> {
    let mut reader = BufReader::new(connection.try_clone().ok()?);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
        let key = line
            .split(' ')
            .nth(1)?
            .strip_prefix(&format!("/{BUCKET}/"))?
            .to_owned();
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line).ok()?;
        }
        let times = {
            let mut asked = asked.lock().expect("no panic");
            let times = asked.entry(key.clone()).or_default();
            *times += 1;
            *times
        };
        most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let reply = answer(&key, times);
        at_once.fetch_sub(1, Ordering::SeqCst);
        let head =
            |status, length| format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n");
        match reply {
            Reply::Whole(bytes) => {
                connection
                    .write_all(head(200, bytes.len()).as_bytes())
                    .ok()?;
                connection.write_all(&bytes).ok()?;
            }
            Reply::Cut(bytes, length) => {
                connection
                    .write_all(head(200, bytes.len()).as_bytes())
                    .ok()?;
                connection.write_all(&bytes[..length]).ok()?;
                return None;
            }
            Reply::Longer(bytes, more) => {
                connection
                    .write_all(head(200, bytes.len()).as_bytes())
                    .ok()?;
                connection.write_all(&[bytes, more].concat()).ok()?;
            }
            Reply::Refusal(status, code) => {
                let body = match code {
                    "" => "<html>".to_owned(),
                    code => format!("<Error><Code>{code}</Code><Message>no</Message></Error>"),
                };
                connection
                    .write_all(head(status, body.len()).as_bytes())
                    .ok()?;
                connection.write_all(body.as_bytes()).ok()?;
            }
            Reply::Silence => thread::sleep(SHORT * 30),
        }
    }
}

fn limits() -> ReadOptions {
    ReadOptions::default()
}

fn stream(settings: Settings, limits: ReadOptions) -> PathFeaturizer {
    PathFeaturizer::new(Arc::new(open(1, 2)), settings, limits).expect("starts")
}

pub fn s3(key: impl std::fmt::Display) -> Option<String> {
    Some(format!("s3a://{BUCKET}/{key}"))
}

pub fn next(stream: &mut PathFeaturizer) -> Result<Features> {
    let features = stream.next(&mut || false)?;
    Ok(features.expect("a step was submitted"))
}

/// Submits all as one step and gives what comes of it.
fn read(server: &Server, limits: ReadOptions, paths: Vec<Option<String>>) -> Result<Features> {
    let mut stream = stream(server.settings(), limits);
    stream.submit(paths)?;
    next(&mut stream)
}

fn photo() -> Vec<u8> {
    encoded(Format::Png, 8, 8)
}

fn fault(result: Result<Features>) -> String {
    match result {
        Err(error @ Error::Storage(_)) => error.to_string(),
        other => panic!("no fault of the store: {other:?}"),
    }
}

/// Files of whole and broken photos, and names that are not there, with the rows of their bytes.
struct Files {
    paths: Vec<Option<String>>,
    rows: Vec<Row>,
}

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("stream");
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut contents: Vec<_> = FORMATS
        .iter()
        .zip(5..)
        .map(|(&format, side)| encoded(format, side, 12))
        .collect();
    contents.extend([Vec::new(), b"<html>".to_vec()]);
    let mut paths = Vec::new();
    for (number, content) in contents.iter().enumerate() {
        let path = folder.join(format!("a%20 +é#{number}?.jpg"));
        std::fs::write(&path, content).expect("writes");
        paths.push(Some(format!("file:{}", path.display())));
    }
    let images: Vec<_> = contents.iter().map(|content| Some(&content[..])).collect();
    let featurizer = open(1, 1);
    let mut rows_of_bytes = rows(&featurize(&featurizer, &images));
    let nothing = rows_of_bytes[FORMATS.len()].0.clone();
    paths.extend([Some(folder.join("gone").display().to_string()), None]);
    rows_of_bytes.push((nothing.clone(), Some(ImageError::Gone.to_string())));
    rows_of_bytes.push((nothing, Some(ImageError::Missing.to_string())));
    Files {
        paths,
        rows: rows_of_bytes,
    }
});

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn steps_come_in_order_with_the_rows_of_their_bytes(
        steps in prop::collection::vec(prop::collection::vec(0..10_usize, 0..20), 0..6),
        ahead in 0..4_usize,
        threads in 1..4_usize,
        concurrency in 1..6_usize,
        bytes in 1..4000_u64,
    ) {
        let files = &*FILES;
        let limits = ReadOptions {
            concurrency: NonZeroUsize::new(concurrency).expect("not zero"),
            max_bytes_in_flight: NonZeroU64::new(bytes).expect("not zero"),
            ..limits()
        };
        let featurizer = Arc::new(open(threads, 2));
        let mut stream = PathFeaturizer::new(featurizer, Settings::default(), limits)
            .expect("starts");
        let mut found = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            let paths = step.iter().map(|&pick| files.paths[pick].clone()).collect();
            stream.submit(paths).expect("submits");
            if number >= ahead {
                found.push(rows(&next(&mut stream).expect("runs")));
            }
        }
        while let Some(features) = stream.next(&mut || false).expect("runs") {
            found.push(rows(&features));
        }
        let expected: Vec<Vec<_>> = steps
            .iter()
            .map(|step| step.iter().map(|&pick| files.rows[pick].clone()).collect())
            .collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_path_is_taken_as_it_is() {
    let file = |path: &str| Location::File(PathBuf::from(path));
    let s3 = |bucket: &str, key: &str| Location::S3 {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
    };
    for (path, expected) in [
        ("s3://b/k", s3("b", "k")),
        (
            "s3a://my.bucket/a b/é+%20#?*[x].jpg",
            s3("my.bucket", "a b/é+%20#?*[x].jpg"),
        ),
        ("S3N://b/k:1/2", s3("b", "k:1/2")),
        ("file:/a%20b/c d", file("/a%20b/c d")),
        ("file:///a:/b", file("/a:/b")),
        ("file://localhost/a", file("/a")),
        ("/a:/b", file("/a:/b")),
        ("a:b", file("a:b")),
        ("a/b.jpg", file("a/b.jpg")),
    ] {
        assert_eq!(Location::parse(path).expect(path), expected);
    }
    for path in [
        "",
        "s3://",
        "s3://b",
        "s3://b/",
        "s3:///k",
        "s3:/b/k",
        "hdfs://n/a",
        "file://host/a",
    ] {
        let error = Location::parse(path).expect_err(path);
        assert!(matches!(error, Error::Path { .. }), "{error:?}");
    }
}

#[test]
fn bodies_that_break_off_and_a_busy_server_are_tried_again() {
    let server = Server::start(|key, times| match (key.len() % 3, times) {
        (0, 1) => Reply::Cut(photo(), 20),
        (1, 1 | 2) => Reply::Refusal(503, "SlowDown"),
        (2, 1) => Reply::Refusal(500, "InternalError"),
        _ => Reply::Whole(photo()),
    });
    let keys = (0..40).map(|number| s3("x".repeat(number + 1))).collect();
    let features = read(&server, limits(), keys).expect("runs");
    let expected = rows(&featurize(&open(1, 1), &[Some(&photo())])).remove(0);
    assert!(rows(&features).iter().all(|row| *row == expected));
}

#[test]
fn keys_are_asked_for_by_their_whole_names() {
    let server = Server::start(|key, _| match key {
        "a%20b/%C3%A9%2B%25%23%3F%2A%5B1%5D.jpg" => Reply::Whole(photo()),
        _ => Reply::Refusal(404, "NoSuchKey"),
    });
    let paths = vec![s3("a b/é+%#?*[1].jpg"), s3("other")];
    let features = read(&server, limits(), paths).expect("runs");
    assert!(features.errors[0].is_none(), "{:?}", features.errors);
    assert!(matches!(features.errors[1], Some(ImageError::Gone)));
}

#[test]
fn what_is_the_stores_fault_ends_the_call_and_says_where() {
    for (status, code, hint) in [
        (403, "InvalidAccessKeyId", "check the credentials"),
        (400, "ExpiredToken", "check the credentials"),
        (404, "NoSuchBucket", "no such bucket"),
        (301, "PermanentRedirect", "endpoint.region"),
        (400, "AuthorizationHeaderMalformed", "endpoint.region"),
        (404, "", "not an S3 server"),
    ] {
        let server = Server::start(move |_, _| Reply::Refusal(status, code));
        let mut stream = stream(server.settings(), limits());
        stream.submit((0..100).map(s3).collect()).expect("submits");
        stream.submit((0..100).map(s3).collect()).expect("submits");
        let said = fault(next(&mut stream));
        assert!(said.contains(hint), "{said}");
        assert!(
            said.contains(&format!(
                "s3://{BUCKET} at http://127.0.0.1:{}",
                server.port
            )),
            "{said}"
        );
        assert!(matches!(stream.next(&mut || false), Ok(None)));
    }
}

#[test]
fn a_server_that_is_not_there_is_a_fault() {
    let server = Server {
        port: 1,
        at_once: Arc::default(),
        most_at_once: Arc::default(),
    };
    let said = fault(read(&server, limits(), (0..100).map(s3).collect()));
    assert!(said.contains("can't be reached"), "{said}");
}

#[test]
fn a_photo_without_an_answer_has_an_error_and_the_others_their_rows() {
    let limits = ReadOptions {
        timeout: SHORT,
        ..limits()
    };
    let server = Server::start(|key, _| match key {
        "7" => Reply::Silence,
        _ => Reply::Whole(photo()),
    });
    let features = read(&server, limits, (0..40).map(s3).collect()).expect("runs");
    for (number, error) in features.errors.iter().enumerate() {
        match (number, error) {
            (7, Some(ImageError::NotRead { reason })) => assert!(reason.contains("hangs")),
            (_, error) => assert!(number != 7 && error.is_none(), "{number}: {error:?}"),
        }
    }
}

#[test]
fn a_server_without_any_answer_is_a_fault() {
    let limits = ReadOptions {
        timeout: SHORT,
        ..limits()
    };
    let server = Server::start(|_, _| Reply::Silence);
    let said = fault(read(&server, limits, (0..10_000).map(s3).collect()));
    assert!(said.contains("hangs"), "{said}");
}

#[test]
fn no_more_is_read_at_once_than_may_be() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |_, _| {
        asked.fetch_add(1, Ordering::SeqCst);
        // The first waits for another, however long this machine takes for that.
        while asked.load(Ordering::SeqCst) < 2 {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(5));
        Reply::Whole(photo())
    });
    let limits = ReadOptions {
        concurrency: NonZeroUsize::new(5).expect("not zero"),
        ..limits()
    };
    read(&server, limits, (0..100).map(s3).collect()).expect("runs");
    let most = server.most_at_once.load(Ordering::SeqCst);
    assert!((2..=5).contains(&most), "{most}");
}

#[test]
fn a_call_that_waits_can_be_interrupted() {
    let server = Server::start(|_, _| Reply::Silence);
    let mut stream = stream(server.settings(), limits());
    stream.submit(vec![s3(1)]).expect("submits");
    let mut asked = 0;
    let result = stream.next(&mut || {
        asked += 1;
        asked == 3
    });
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
}

#[test]
fn nobody_sees_the_keys() {
    let settings = S3Settings {
        access_key: Some("AKIA".to_owned()),
        secret_key: Some("hush".to_owned()),
        session_token: Some("quiet".to_owned()),
        ..S3Settings::default()
    };
    let shown = format!("{settings:?}");
    for key in ["AKIA", "hush", "quiet"] {
        assert!(!shown.contains(key), "{shown}");
    }
}

#[test]
fn limits_may_be_as_large_as_their_types() {
    let limits = ReadOptions {
        concurrency: NonZeroUsize::MAX,
        max_bytes_in_flight: NonZeroU64::MAX,
        timeout: Duration::MAX,
    };
    let server = Server::start(|_, _| Reply::Whole(photo()));
    let features = read(&server, limits, vec![s3(1)]).expect("runs");
    assert!(features.errors[0].is_none());
}

#[test]
fn several_threads_and_few_bytes_do_not_wait_for_each_other() {
    let server = Server::start(|_, _| Reply::Whole(photo()));
    let limits = ReadOptions {
        max_bytes_in_flight: NonZeroU64::MIN,
        ..limits()
    };
    let featurizer: Arc<Featurizer> = Arc::new(open(3, 2));
    let mut stream = PathFeaturizer::new(featurizer, server.settings(), limits).expect("starts");
    for _ in 0..3 {
        stream.submit((0..50).map(s3).collect()).expect("submits");
    }
    for _ in 0..3 {
        assert_eq!(next(&mut stream).expect("runs").matrix.nrows(), 50);
    }
}
