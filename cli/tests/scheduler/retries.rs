//! A submission whose answer was lost on the way is sent again, and makes no second job.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::world::{MASTER, World};

/// How long the scheduler has for the submission before the connection is cut.
const COMMIT: Duration = Duration::from_secs(2);

/// Passes bytes on until a side ends.
fn relay(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
}

/// Passes TLS records from the client on, and tells when the first that holds data of the application has gone by. The
/// one before it, of the same type, ends the handshake (RFC 8446, 4.4.4).
fn relay_records(mut from: TcpStream, mut to: TcpStream, gone_by: &std::sync::mpsc::Sender<()>) {
    let (mut head, mut data) = ([0; 5], 0);
    while from.read_exact(&mut head).is_ok() {
        let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        from.read_exact(&mut body).unwrap();
        data += usize::from(head[0] == 23);
        if data == 2 {
            let _told_before = gone_by.send(());
        }
        if to.write_all(&head).and_then(|()| to.write_all(&body)).is_err() {
            break;
        }
    }
}

/// The first connection: everything arrives, and nothing of the answer comes back.
fn lose_the_answer(client: &TcpStream, server: &TcpStream) {
    let (tell, gone_by) = std::sync::mpsc::channel();
    let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || relay_records(from, to, &tell));
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    from.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let mut buffer = [0; 8192];
    while gone_by.try_recv().is_err() {
        if let Ok(count @ 1..) = from.read(&mut buffer) {
            to.write_all(&buffer[..count]).unwrap();
        }
    }
    std::thread::sleep(COMMIT);
    for side in [client, server] {
        let _closed_already = side.shutdown(Shutdown::Both);
    }
}

/// Stands before the scheduler and loses the answer of the first connection.
fn lossy(api: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let (client, server) = (client.unwrap(), TcpStream::connect(api).unwrap());
            if number == 0 {
                lose_the_answer(&client, &server);
                continue;
            }
            let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || relay(back.0, back.1));
            std::thread::spawn(move || relay(client, server));
        }
    });
    address
}

#[test]
fn a_submission_whose_answer_was_lost_makes_one_job() {
    let world = World::new();
    let file = world.file("jobs.ndjson", "{}\n{}\n{}\n");
    let ca = world.path("master.d/ca.crt");
    let single = ["jobs", "submit", "--scenario", "720p-h264"];
    let batch = [&single[..], &["--file", &file]].concat();
    for (args, jobs) in [(single.to_vec(), 1), (batch, 4)] {
        let url = format!("https://{}", lossy(world.api));
        let way = [
            "--master",
            &url,
            "--api-key",
            MASTER,
            "--ca",
            ca.to_str().unwrap(),
        ];
        world.run(&[&args[..], &way].concat()).ends(0);
        let known = world.run(&["jobs", "list", "-o", "json"]).ends(0).json();
        assert_eq!(known["count"], jobs);
    }
    // The first of each two did arrive: the scheduler has taken every submission twice.
    let audit = std::fs::read_to_string(world.path("master.d/audit.log")).unwrap();
    let count = |path: &str| audit.lines().filter(|line| line.contains(path)).count();
    assert_eq!(
        (count("POST /jobs\""), count("POST /jobs/batch\"")),
        (2, 2),
        "{audit}"
    );
}
