// SPDX-License-Identifier: Apache-2.0
//! Starting, ending, signalling and limiting real processes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use atoll_agent::msgpack::Value;
use support::{argv, exists, field, int, is_root, runs, str, unique_sleep, wait_until, Agent};

#[test]
fn exit_codes_are_reported_exactly() {
    let agent = Agent::start();

    for code in [0, 1, 2, 126, 127, 128, 137, 255] {
        let answer = agent.shell(&format!("exit {}", code));
        assert_eq!((answer.int("code"), answer.int("signal")), (Some(code), None));
    }
}

#[test]
fn death_by_signal_is_reported_as_signal() {
    let agent = Agent::start();

    for signal in [1, 2, 6, 9, 11, 13, 15] {
        let answer = agent.shell(&format!("kill -{} $$", signal));
        assert_eq!((answer.int("code"), answer.int("signal")), (None, Some(signal)));
    }
}

#[test]
fn argv_is_run_as_it_is() {
    let agent = Agent::start();

    let odd = Value::Bin(b"\xff $HOME *\n".to_vec());
    let items = Value::Array(vec![str("printf"), str("%s|"), str(""), odd, str("a b")]);
    let answer = agent.request("start", &[("argv", items)]);

    assert_eq!(answer.stdout, b"|\xff $HOME *\n|a b|");
}

#[test]
fn long_arguments_and_odd_environments_arrive() {
    let agent = Agent::start();
    let long = "x".repeat(100 << 10);
    let env = Value::Map(vec![("A".to_owned(), str("1\n2=3")), ("B".to_owned(), str(""))]);

    let text = "printf '%s|%s|%s' \"$A\" \"${B-unset}\" ${#1}";
    let items = argv(&["/bin/sh", "-c", text, "sh", &long]);
    let answer = agent.request("start", &[("argv", items), ("env", env)]);

    assert_eq!(answer.output(), format!("1\n2=3||{}", 100 << 10));
}

#[test]
fn what_cannot_be_started_is_an_error_of_its_own() {
    let agent = Agent::start();
    let cases = [
        (argv(&["no-such-program"]), "/", "program_not_found"),
        (argv(&["/no/such/program"]), "/", "program_not_found"),
        (argv(&[""]), "/", "program_not_found"),
        (argv(&["/etc/passwd"]), "/", "program_not_executable"),
        (argv(&["/tmp"]), "/", "program_not_executable"),
        (argv(&["true"]), "/no/such/place", "bad_directory"),
        (argv(&["true"]), "/etc/passwd", "bad_directory"),
        (argv(&["true"]), "relative", "invalid"),
        (argv(&[]), "/", "invalid"),
    ];

    for (items, cwd, code) in cases {
        let answer = agent.request("start", &[("argv", items), ("cwd", str(cwd))]);
        assert_eq!(answer.code(), code);
    }
    let huge = agent.request("start", &[("argv", argv(&["true", &"x".repeat(200 << 10)]))]);
    assert_eq!((huge.code(), huge.int("errno")), ("spawn_failed", Some(7)));
}

#[test]
fn missing_working_directory_is_made_when_asked() {
    let agent = Agent::start();
    let cwd = agent.file("a/b");

    let fields = [("argv", argv(&["pwd"])), ("cwd", str(&cwd)), ("make_cwd", Value::Bool(true))];
    let answer = agent.request("start", &fields);

    assert_eq!(answer.output(), format!("{}\n", cwd));
}

#[test]
fn user_has_its_own_ids_groups_and_environment() {
    if !is_root() {
        return;
    }
    let agent = Agent::start();

    let text =
        "id -u; id -G; echo $HOME $USER $LOGNAME $SHELL; umask; grep CapEff /proc/self/status";
    let answer = agent.request("start", &[("shell", str(text)), ("user", str("nobody"))]);

    let expected = "65534\n65534\n/nonexistent nobody nobody /usr/sbin/nologin\n0022\n\
                    CapEff:\t0000000000000000\n";
    assert_eq!(answer.output(), expected);
    let unknown =
        agent.request("start", &[("argv", argv(&["true"])), ("user", str("nobody-at-all"))]);
    assert_eq!(unknown.code(), "unknown_user");
}

#[test]
fn process_inherits_nothing_but_its_three_files() {
    let agent = Agent::start();

    let files = agent.request("start", &[("argv", argv(&["ls", "/proc/self/fd"]))]);
    let status = agent.request("start", &[("argv", argv(&["cat", "/proc/self/status"]))]);

    // 3 is the listing itself.
    assert_eq!(files.output(), "0\n1\n2\n3\n");
    let none = "0".repeat(16);
    let session = int(&status.events[0], "pid");
    let expected = format!("SigBlk:\t{0}\nSigIgn:\t{0}\nSigCgt:\t{0}\n", none);
    assert!(status.output().contains(&expected));
    assert!(status.output().contains(&format!("NSsid:\t{}\n", session)));
}

#[test]
fn tag_is_given_back() {
    let agent = Agent::start();

    let answer = agent.request("start", &[("argv", argv(&["true"])), ("tag", str("build"))]);

    assert_eq!(field(&answer.events[0], "tag"), &str("build"));
}

#[test]
fn timeout_ends_the_whole_tree() {
    let agent = Agent::start();
    let mark = unique_sleep();
    let text = format!(
        "(setsid sh -c 'sleep {0} & sleep {0}' &); nohup sleep {0} >/dev/null 2>&1 & \
         sh -c \"trap '' TERM; sleep {0}; sleep {0}\" & ( (sleep {0} &) & ); sleep {0}",
        mark
    );
    let begun = Instant::now();

    let fields =
        [("shell", str(&text)), ("timeout_ms", Value::Int(400)), ("grace_ms", Value::Int(300))];
    let answer = agent.request("start", &fields);

    assert_eq!(field(answer.last(), "timed_out"), &Value::Bool(true));
    assert_eq!(answer.int("signal"), Some(15));
    assert!(begun.elapsed() < Duration::from_millis(900));
    wait_until(|| !runs(&mark));
    assert!(begun.elapsed() < Duration::from_millis(2000));
}

#[test]
fn process_that_ignores_the_term_signal_is_killed_after_the_grace() {
    let agent = Agent::start();
    let text = "trap '' TERM; while :; do sleep 0.05; done";

    let fields =
        [("shell", str(text)), ("timeout_ms", Value::Int(200)), ("grace_ms", Value::Int(200))];
    let answer = agent.request("start", &fields);

    assert_eq!(answer.int("signal"), Some(9));
    assert_eq!(field(answer.last(), "timed_out"), &Value::Bool(true));
}

#[test]
fn process_that_handles_the_term_signal_reports_its_code() {
    let agent = Agent::start();
    let text = "trap 'exit 7' TERM; while :; do sleep 0.02; done";

    let answer = agent.request("start", &[("shell", str(text)), ("timeout_ms", Value::Int(200))]);

    assert_eq!(
        (answer.int("code"), field(answer.last(), "timed_out")),
        (Some(7), &Value::Bool(true))
    );
}

#[test]
fn timeout_holds_when_the_client_has_gone() {
    let agent = Agent::start();
    let mark = unique_sleep();
    let mut client = agent.connect();
    let text = format!("sleep {0} & sleep {0}", mark);
    client.send_request("start", &[("shell", str(&text)), ("timeout_ms", Value::Int(400))]);
    client.receive_event("started");

    client.close();

    thread::sleep(Duration::from_millis(100));
    assert!(runs(&mark));
    wait_until(|| !runs(&mark));
}

#[test]
fn fork_bomb_is_killed_by_its_timeout() {
    let agent = Agent::start();
    let mark = unique_sleep();
    // Bounded, so that a failing test does not take the host down.
    let text = format!(
        "f() {{ [ $1 -gt 0 ] && {{ f $(($1-1)) & f $(($1-1)) & setsid sleep {} & }}; wait; }}; f 5; sleep 99",
        mark
    );

    let fields =
        [("shell", str(&text)), ("timeout_ms", Value::Int(500)), ("grace_ms", Value::Int(0))];
    let answer = agent.request("start", &fields);

    assert_eq!(field(answer.last(), "timed_out"), &Value::Bool(true));
    wait_until(|| !runs(&mark));
}

#[test]
fn background_child_outlives_its_command_and_can_be_killed() {
    let agent = Agent::start();
    let mark = unique_sleep();
    let begun = Instant::now();

    let answer = agent.shell(&format!("sleep {} & echo started", mark));

    assert_eq!((answer.output().as_str(), answer.int("code")), ("started\n", Some(0)));
    assert!(begun.elapsed() < Duration::from_secs(5));
    wait_until(|| runs(&mark));
    let kill = [
        ("process", Value::Int(answer.process())),
        ("signal", Value::Int(9)),
        ("tree", Value::Bool(true)),
    ];
    assert_eq!(agent.request("signal", &kill).int("signalled"), Some(1));
    wait_until(|| !runs(&mark));
    wait_until(|| agent.request("signal", &kill).code() == "not_found");
}

#[test]
fn signals_reach_a_running_process() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let text = "trap 'echo got; exit 3' USR1; echo ready; while :; do sleep 0.02; done";
    client.send_request("start", &[("shell", str(text))]);
    let process = int(&client.receive_event("started"), "process");
    client.receive().unwrap();

    let fields = [("process", Value::Int(process)), ("signal", Value::Int(10))];
    let signalled = agent.request("signal", &fields);

    assert_eq!(signalled.int("signalled"), Some(1));
    let (_, _, output) = client.receive().unwrap();
    assert_eq!(output, b"got\n");
    assert_eq!(client.finish().int("code"), Some(3));
}

#[test]
fn client_signals_through_its_own_connection() {
    let agent = Agent::start();
    let mut client = agent.connect();
    client.send_request("start", &[("argv", argv(&["sleep", "100"]))]);
    client.receive_event("started");

    let pairs = [("op", str("signal")), ("signal", Value::Int(2)), ("tree", Value::Bool(true))];
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    client.send_control(Value::Map(pairs));

    assert_eq!(client.finish().int("signal"), Some(2));
}

#[test]
fn unknown_processes_and_signals_are_refused() {
    let agent = Agent::start();

    let of = |process, signal| [("process", Value::Int(process)), ("signal", Value::Int(signal))];

    assert_eq!(agent.request("signal", &of(99, 9)).code(), "not_found");
    assert_eq!(agent.request("signal", &of(1, 65)).code(), "invalid");
    assert_eq!(agent.request("signal", &of(1, -1)).code(), "invalid");
}

#[test]
fn command_whose_supervisor_is_killed_still_reports_its_end() {
    let agent = Agent::start();

    let answer = agent.shell("kill -9 $PPID; sleep 0.1; echo alive; exit 5");

    assert_eq!((answer.output().as_str(), answer.int("code")), ("alive\n", Some(5)));
    assert_eq!(agent.shell("exit 4").int("code"), Some(4));
}

#[test]
fn command_that_ends_together_with_its_supervisor_reports_its_end() {
    let agent = Agent::start();
    let mut clients: Vec<_> = (0..200).map(|_| agent.connect()).collect();

    for client in &mut clients {
        client.send_request("start", &[("shell", str("kill -9 $PPID; exit 5"))]);
    }

    for client in clients {
        assert_eq!(client.finish().int("code"), Some(5));
    }
}

#[test]
fn stopped_supervisor_still_reports() {
    let agent = Agent::start();

    let answer = agent.shell("kill -STOP $PPID; sleep 0.05; exit 5");

    assert_eq!(answer.int("code"), Some(5));
}

#[test]
fn five_hundred_processes_at_once_all_answer() {
    let agent = Agent::start();
    let mut clients: Vec<_> = (0..500).map(|_| agent.connect()).collect();

    for (number, client) in clients.iter_mut().enumerate() {
        let text = format!("sleep 0.2; echo {0}; exit {1}", number, number % 250);
        client.send_request("start", &[("argv", argv(&["/bin/sh", "-c", &text]))]);
    }

    for (number, client) in clients.into_iter().enumerate() {
        let answer = client.finish();
        assert_eq!(answer.output(), format!("{}\n", number));
        assert_eq!(answer.int("code"), Some(i64::try_from(number % 250).unwrap()));
    }
    wait_until(|| agent.open_files() < 12);
}

#[test]
fn many_processes_leave_no_memory_and_no_files_behind() {
    let agent = Agent::start();
    for _ in 0..50 {
        agent.shell("true");
    }
    let (files, memory) = (agent.open_files(), agent.rss_kib());

    for _ in 0..500 {
        let fields = [("argv", argv(&["/bin/true"])), ("timeout_ms", Value::Int(60_000))];
        agent.request("start", &fields);
    }

    wait_until(|| agent.open_files() <= files);
    assert!(agent.rss_kib() < memory + 512, "{} -> {} KiB", memory, agent.rss_kib());
}

#[test]
fn agent_ends_with_everything_it_started() {
    let mark = unique_sleep();
    let agent = Agent::start();
    let folder = agent.folder.clone();
    agent.shell(&format!("(setsid sleep {} &)", mark));
    wait_until(|| runs(&mark));

    drop(agent);

    assert!(!runs(&mark));
    assert!(!exists(folder.to_str().unwrap()));
}

#[test]
fn the_process_that_holds_most_memory_is_the_one_killed() {
    let agent = Agent::start();
    assert_eq!(agent.request("kill_largest", &[]).int("signalled"), Some(0));
    let mut small = agent.connect();
    small.send_request("start", &[("shell", str("echo ready; read line"))]);
    small.receive_event("started");
    let mut large = agent.connect();
    let text = "x=$(head -c 30000000 /dev/zero | tr '\\0' x); echo ready; read line";
    let fields = [("shell", str(text)), ("stdin", Value::Bool(true))];
    large.send_request("start", &fields);
    large.receive_event("started");
    assert_eq!(large.receive().unwrap().2, b"ready\n");

    assert_eq!(agent.request("kill_largest", &[]).int("signalled"), Some(1));

    assert_eq!(large.finish().int("signal"), Some(9));
}

#[test]
fn a_signal_sent_before_leaving_reaches_a_process_that_was_not_heard_of_yet() {
    let agent = Agent::start();
    let marks: Vec<String> = (0..20).map(|_| unique_sleep()).collect();
    for mark in &marks {
        let mut client = agent.connect();
        client.send_request("start", &[("shell", str(&format!("yes & sleep {}", mark)))]);
        let kill = [("op", str("signal")), ("signal", Value::Int(9)), ("tree", Value::Bool(true))];
        let fields = kill.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        client.send_control(Value::Map(fields));
        client.close();
    }

    // Long enough for all of them to have been started, were they not killed.
    thread::sleep(Duration::from_millis(500));

    assert_eq!(marks.iter().filter(|mark| runs(mark)).count(), 0);
}
