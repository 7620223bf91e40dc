//! Clients of a proxy whose thread is stopped by a debugger: its successor serves them while it stands.

use std::{
    net::{SocketAddr, UdpSocket},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::support::{
    Lab, loopback, signal,
    stopped::{stop, threads},
    wait_for,
};

/// Far longer than everything else takes: what is seen meanwhile is seen while the thread stands.
const STANDS: Duration = Duration::from_secs(600);

/// What a signal is answered with; asked again until there is an answer.
fn ask(socket: &UdpSocket, text: &str) -> String {
    wait_for(text, || {
        socket.send(text.as_bytes()).expect("sent");
        let mut answer = [0; 1500];
        let length = socket.recv(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer[..length]).into_owned())
    })
}

fn sessions(lab: &Lab, query: &str) -> Vec<Value> {
    let (code, body) = lab.get(&format!("/api/v1/sessions{query}"));
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).expect("a list")
}

#[test]
#[ignore = "needs python3 and ptrace"]
fn a_stuck_thread_s_clients_go_on_with_its_successor() {
    let ip = loopback();
    let proxy = SocketAddr::from((ip, 49152));
    let mut lab = Lab::start(&format!(
        "[http]\nlisten = \"{ip}:9167\"\n[rudp]\nlisten = \"{proxy}\"\n\
         [scrap]\nlisten = \"{ip}:49153\"\n[origin]\nlisten = \"{ip}:8080\"\n\
         [supervisor]\nstuck_after = \"3s\"\n"
    ));
    let student = UdpSocket::bind((ip, 0)).expect("a socket");
    student.connect(proxy).expect("loopback");
    let moment = Some(Duration::from_millis(300));
    student.set_read_timeout(moment).expect("a time");
    assert_eq!(ask(&student, "SIGNEW:Tal"), "SIGNACK");
    assert_eq!(ask(&student, "SIGNECHO:290;1"), "ECHOREPLY:290;1");
    let download = Command::new(env!("CARGO_BIN_EXE_labnet"))
        .args(["client", "--server", &proxy.to_string(), "--via", "rudp"])
        .args(["--json", "--rate", "40mbit", "get", "--discard", "50MB.zip"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("labnet starts");
    wait_for("the transfer to be under way", || {
        let mut all = sessions(&lab, "").into_iter();
        let transfer = all.find(|session| session["kind"] == "transport")?;
        (transfer["packets_sent"].as_u64()? > 5000).then_some(())
    });
    let old = threads(lab.pid(), "rudp");
    let mut standing = stop(old[0], STANDS);

    let output = download.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaints}");
    let summary: Value =
        serde_json::from_str(said.lines().last().expect("a summary")).expect("JSON");
    let told = (&summary["complete"], &summary["connections"]);
    assert_eq!(told, (&true.into(), &2.into()), "{summary}");
    // Who sends the next signal is told what has happened, and may begin again.
    let refusal = ask(&student, "SIGNECHO:291;2");
    assert!(
        refusal.starts_with("SIGNREFUSED:291;your session is lost"),
        "{refusal}"
    );
    assert_eq!(ask(&student, "SIGNEW:Tal"), "SIGNACK");
    assert_eq!(ask(&student, "SIGNECHO:290;3"), "ECHOREPLY:290;3");
    assert_eq!(lab.metric("labnet_rudp_sessions"), 1.0);
    let ended = |how: &str| {
        lab.metric(&format!(
            "labnet_rudp_sessions_ended_total{{reason=\"{how}\"}}"
        ))
    };
    assert_eq!((ended("crash"), ended("end")), (2.0, 1.0));
    assert!(standing.try_wait().expect("a child").is_none(), "it stands");
    assert!(threads(lab.pid(), "rudp").contains(&old[0]));

    // Once it wakes those that lived in it end, and what they have done can be looked up.
    signal(standing.id(), "TERM");
    standing.wait().expect("it ends");
    let crashed = wait_for("the end of those that lived there", || {
        let ended = sessions(&lab, "?ended").into_iter();
        let crashed: Vec<_> = ended.filter(|session| session["how"] == "crash").collect();
        (crashed.len() == 2).then_some(crashed)
    });
    for session in crashed {
        assert_eq!(session["cause"], "its thread did nothing and was replaced");
    }
    wait_for("the old thread's end", || {
        (threads(lab.pid(), "rudp").len() == 1).then_some(())
    });
    // Nobody has counted them twice.
    assert_eq!((ended("crash"), ended("end")), (2.0, 1.0));
    assert_eq!(lab.metric("labnet_rudp_sessions"), 1.0);
    assert_eq!(ask(&student, "SIGNEND:291;SIGNEND"), "ACKEND:291");
    assert_eq!(lab.terminate(), Some(0));
}
