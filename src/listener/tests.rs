//! Addresses in sendmail's notation; sockets that are stale, taken, or another's.

use super::address::{MAX_BESIDE, MAX_UNIX_PATH};
use super::*;
use tokio::net::UnixStream;

fn parse(text: &str) -> Result<String, String> {
    text.parse::<Address>().map(|address| address.to_string()).map_err(|error| error.to_string())
}

#[test]
fn sendmails_notation_is_understood() {
    for (text, expected) in [
        ("unix:/run/m.sock", "unix:/run/m.sock"),
        ("local:/run/m.sock", "unix:/run/m.sock"),
        ("/run/m.sock", "unix:/run/m.sock"),
        ("inet:8891@127.0.0.1", "inet:8891@127.0.0.1"),
        ("inet6:8891@::1", "inet6:8891@::1"),
        ("inet6:8891@[::1]", "inet6:8891@::1"),
    ] {
        assert_eq!(parse(text).as_deref(), Ok(expected));
    }
    for text in ["inet:8891", "inet:0@h", "inet:99999@h", "inet:x@h", "unix:run/x", "tcp:1@h", "", "inet:1@"]
    {
        assert!(parse(text).is_err(), "{text}");
    }
    assert!(parse(&format!("unix:/{}", "x".repeat(120))).unwrap_err().contains("107 bytes"));
    assert!(parse(&format!("unix:/{}/x", "x".repeat(103))).is_err());
}

#[tokio::test]
async fn a_stale_socket_is_told_from_a_live_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.sock");
    let address = Address::Unix(path.clone());
    let ownership = Ownership::default();

    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "the standard library leaves its file: a stale one");
    let listener = Listener::bind(&address, &ownership).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o660);
    assert!(matches!(Listener::bind(&address, &ownership), Err(BindError::Taken)));
    UnixStream::connect(&path).await.unwrap();
    drop(listener);
    assert!(!path.exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Listener::bind(&address, &ownership), Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn every_path_that_is_accepted_can_be_bound() {
    let folder = tempfile::tempdir().unwrap();
    let room = MAX_UNIX_PATH - folder.path().as_os_str().len() - 1;
    for name in ["x".repeat(room), format!("{}/x", "x".repeat(room - MAX_BESIDE - 1))] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let address: Address = format!("unix:{}", path.display()).parse().unwrap();
        Listener::bind(&address, &Ownership::default()).unwrap();
    }
}

#[tokio::test]
async fn a_socket_of_another_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.sock");
    let ours = Listener::bind(&Address::Unix(path.clone()), &Ownership::default()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(ours);
    assert!(path.exists());
}

#[tokio::test]
async fn names_that_do_not_exist_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Unix(folder.path().join("m.sock"));
    let ownership = Ownership { group: Some("no-such-group-here".into()), ..Ownership::default() };
    let error = Listener::bind(&address, &ownership).unwrap_err();
    assert_eq!(error.to_string(), "there is no group named `no-such-group-here` on this machine");
}

#[test]
fn of_many_that_find_the_same_stale_file_one_gets_the_socket() {
    const ROUNDS: usize = 20;
    const AT_ONCE: usize = 8;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.sock");
    for round in 0..ROUNDS {
        let _ = std::fs::remove_file(&path);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let start = std::sync::Barrier::new(AT_ONCE);
        let bound: Vec<_> = std::thread::scope(|scope| {
            let bind = || {
                let _entered = runtime.enter();
                start.wait();
                Listener::bind(&Address::Unix(path.clone()), &Ownership::default())
            };
            let all: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(bind)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(bound.iter().filter(|bound| bound.is_ok()).count(), 1, "round {round}: {bound:?}");
        let others = bound.iter().filter_map(|bound| bound.as_ref().err());
        others.for_each(|error| assert!(matches!(error, BindError::Taken), "{error:?}"));
    }
}
