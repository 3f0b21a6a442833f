//! Tests of a console with input: a thread at the other end of its socket plays the guest.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::shell::Status;
use super::voice::Voice;
use super::{Console, Failure};

const LIMIT: Duration = Duration::from_secs(20);
const PROMPT: &str = "portcullis:/# ";

/// A console whose guest has printed `start`, and answers each line that is typed with what `play` returns.
fn console(start: &str, mut play: impl FnMut(&str) -> String + Send + 'static) -> Console {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut guest = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (host, _) = listener.accept().unwrap();
    guest.write_all(start.as_bytes()).unwrap();
    thread::spawn(move || {
        let (mut line, mut byte) = (String::new(), [0]);
        while guest.read(&mut byte).is_ok_and(|count| count > 0) {
            match byte {
                [b'\r'] => {
                    let answer = format!("{line}\r\n{}", play(&line));
                    guest.write_all(answer.as_bytes()).unwrap();
                    line.clear();
                }
                [key] => line.push(key.into()),
            }
        }
    });
    let mut console = Console::collect(host.try_clone().unwrap(), Some(host), Vec::new());
    let processes = vec!["vmm-linux".to_owned(), "root-task".to_owned()];
    console.voice = Voice::new(&["linux".to_owned()], processes);
    console
}

/// A console that two VMs share, with a serial-server that obeys `@NAME`.
fn shared_console() -> Console {
    let start = "serial-server: 115200 baud\r\nfirst: portcullis:/# \r\nsecond: portcullis:/# ";
    let mut console = console(start, |line| match line.strip_prefix('@') {
        Some(vm) => format!("\r\nserial-server: input goes to {vm}\r\n"),
        None => "first: portcullis:/# \r\nsecond: portcullis:/# ".to_owned(),
    });
    console.voice = Voice::new(&["first".to_owned(), "second".to_owned()], Vec::new());
    console
}

#[test]
fn the_input_moves_to_the_vm_that_is_asked_for() {
    let mut console = shared_console();
    console.move_input("second", LIMIT).unwrap();
    assert_eq!(console.voice.own(), "second");
    assert_eq!(console.wait_for_prompt(LIMIT), Ok(()));
    assert!(!console.follow_input(), "it is there already");
}

#[test]
fn the_console_follows_the_users_own_commands() {
    let mut console = shared_console();
    assert!(!console.follow_input());
    console.send(b"@second\r").unwrap();
    console.expect("goes to second\r\n", LIMIT).unwrap();
    assert!(console.follow_input() && !console.follow_input());
    assert_eq!(console.voice.own(), "second");
}

#[test]
fn a_second_console_is_told_the_size_by_serial_server() {
    let mut console = console("first.hvc0: (initramfs) ", |_| String::new());
    console.voice = Voice::new(&["first.hvc0".to_owned(), "first".to_owned()], Vec::new());
    let mut size = Some((50, 132));
    while size.is_some() {
        console.tell_size(&mut size);
        thread::sleep(Duration::from_millis(5));
    }
    console.expect("@w 50 132\r\n", LIMIT).unwrap();
}

/// A shell of process number `process`, which init replaces when it ends. Of a line it runs what the tests type.
fn shell(process: &mut u32, line: &str) -> String {
    let Some(mark) = line.strip_prefix("echo ").and_then(|rest| rest.split_once("$$")).map(|(mark, _)| mark) else {
        return PROMPT.to_owned();
    };
    let mark = mark.replace('"', "");
    let begun = format!("{mark}{process}\r\n");
    match () {
        () if !line.contains("eval") => format!("{begun}{PROMPT}"),
        () if line.contains("exit 3") => {
            *process += 1;
            format!("{begun}{PROMPT}")
        }
        () if line.contains("unterminated") => format!("{begun}-sh: syntax error\r\n{PROMPT}"),
        () => format!("{begun}out\r\n{mark}{}\r\n{PROMPT}", u32::from(line.contains("false"))),
    }
}

/// A guest whose shell waits, and answers.
fn at_its_shell() -> Console {
    let mut process = 40;
    console(PROMPT, move |line| shell(&mut process, line))
}

#[test]
fn a_prompt_behind_a_late_message_is_found_by_return() {
    let mut process = 40;
    let late = format!("{PROMPT}[    7.9] a late kernel message\r\n");
    let mut console = console(&late, move |line| shell(&mut process, line));
    assert_eq!(console.wait_for_prompt(LIMIT), Ok(()));
    assert_eq!(console.shell("true", LIMIT).map(|answer| answer.output), Ok("out\n".to_owned()));
}

#[test]
fn each_command_ends_with_a_status_or_with_the_reason_for_none() {
    let mut console = at_its_shell();
    for (command, status) in [
        ("true", Status::Exit(0)),
        ("false", Status::Exit(1)),
        ("echo 'unterminated", Status::Refused),
        ("exit 3", Status::ShellEnded),
        ("true", Status::Exit(0)),
    ] {
        assert_eq!(console.shell(command, LIMIT).map(|answer| answer.status), Ok(status), "{command}");
    }
}

#[test]
fn a_guest_that_cannot_answer_is_not_waited_for() {
    for (said, failure) in [
        ("[    9.1] ---[ end Kernel panic - not syncing: x ]---\r\n", Failure::Panicked),
        ("vmm-linux: warning: linux: reset after a triple fault at 0x0\r\n", Failure::Reset),
        ("vmm-linux: linux has powered off\r\n", Failure::Off),
        ("root-task: failed: vmm-linux: it faulted\r\n", Failure::Reported),
    ] {
        let mut console = console(PROMPT, move |_| said.to_owned());
        console.watch();
        assert_eq!(console.shell("true", LIMIT).map(|answer| answer.status), Err(failure), "{said}");
    }
}

#[test]
fn a_text_that_a_failure_prevents_is_not_waited_for() {
    let mut console = console("root-task: failed: vmm-linux: it faulted\r\n", |_| String::new());
    assert_eq!(console.expect("never", Duration::from_millis(50)), Err(Failure::TimedOut), "unless it is watched for");
    console.watch();
    assert_eq!(console.expect("never", LIMIT), Err(Failure::Reported));
}

#[test]
fn the_default_guests_shell_is_told_the_terminals_size_once() {
    let mut console = at_its_shell();
    let mut size = Some((50, 132));
    while size.is_some() {
        console.tell_size(&mut size);
        thread::sleep(Duration::from_millis(5));
    }
    console.tell_size(&mut size);
    console.expect("stty rows 50 cols 132\r\n", LIMIT).unwrap();
    assert_eq!(console.expect("stty", Duration::from_millis(50)), Err(Failure::TimedOut));
}
