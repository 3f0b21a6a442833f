extern crate std;
use super::*;
use mmio::{Producer, Ring, Window};
use proptest::prelude::*;
use std::{format, string::String, vec, vec::Vec as StdVec};

/// One tick a microsecond.
const HERTZ: u64 = 1_000_000;
const TIMES: Times = Times::new(HERTZ);

fn source(name: &str, kind: RingKind) -> (Producer, Source) {
    let ring = Ring::new(Window::leak(vec![0; 16 * 1024].leak())).unwrap();
    (ring.producer(), Source::new(name.try_into().unwrap(), kind, ring.consumer()))
}

/// A mixer, and what it has printed.
struct Board {
    mixer: Mixer,
    now: u64,
}

impl Board {
    /// Everything that may go out now.
    fn bytes(&mut self, hurry: Hurry) -> StdVec<u8> {
        std::iter::from_fn(|| self.mixer.next(self.now, hurry)).collect()
    }

    fn drain(&mut self) -> String {
        String::from_utf8(self.bytes(Hurry::No)).unwrap()
    }

    /// Everything that goes out in some time.
    fn wait(&mut self, ticks: u64) -> String {
        let (end, mut out) = (self.now + ticks, self.drain());
        while let Some(at) = self.mixer.deadline(self.now).filter(|at| *at <= end) {
            assert!(at > self.now, "no time passes");
            self.now = at;
            out += &self.drain();
        }
        self.now = end;
        out
    }
}

fn board<const N: usize>(sources: [(&str, RingKind); N], colours: bool) -> ([Producer; N], Board) {
    let mut all = Vec::new();
    let producers = sources.map(|(name, kind)| {
        let (producer, source) = source(name, kind);
        assert!(all.push(source).is_ok());
        producer
    });
    let own = Ring::new(Window::leak(vec![0; 4096].leak())).unwrap();
    (producers, Board { mixer: Mixer::new(all, own, TIMES, colours), now: 1_000_000_000 })
}

fn sole() -> ([Producer; 2], Board) {
    board([("irq", RingKind::Log), ("vm0", RingKind::Console)], false)
}

fn alone(colours: bool) -> ([Producer; 1], Board) {
    board([("a", RingKind::Console)], colours)
}

/// Types at `a` and `b`; their echoes are printed already.
fn type_at_two(board: &mut Board) {
    board.mixer.set_input(Set::of(0).and(Set::of(1)));
    for n in 0..2 {
        board.mixer.sources[n].last = board.now;
    }
}

/// Consoles `a`, `b` and `c`; `a` is typed at.
fn shared() -> ([Producer; 3], Board) {
    board(["a", "b", "c"].map(|name| (name, RingKind::Console)), false)
}

#[test]
fn a_log_line_carries_its_name_and_a_sole_console_does_not() {
    let ([mut log, mut console], mut board) = sole();
    log.push(b"two lines\nof text\n");
    console.push(b"Linux\r\n");
    assert_eq!(board.drain(), "irq: two lines\r\nLinux\r\nirq: of text\r\n");
}

#[test]
fn a_log_waits_for_the_end_of_the_consoles_line() {
    let ([mut log, mut console], mut board) = sole();
    console.push(b"[    0.0");
    assert_eq!(board.drain(), "[    0.0");
    log.push(b"hello\n");
    assert_eq!(board.drain(), "");
    console.push(b"00] Linux\r\n");
    assert_eq!(board.drain(), "00] Linux\r\nirq: hello\r\n");
}

#[test]
fn a_log_line_interrupts_a_silent_prompt() {
    let ([mut log, mut console], mut board) = sole();
    console.push(b"/ # ");
    board.drain();
    log.push(b"hello\n");
    assert_eq!(board.wait(2 * TIMES.silence), "\r\nirq: hello\r\n");
    console.push(b"ls");
    assert_eq!(board.drain(), "ls");
}

#[test]
fn a_log_cannot_move_the_cursor() {
    let ([mut log], mut board) = board([("irq", RingKind::Log)], false);
    log.push(b"\x1b[2Jgone\r\n");
    assert_eq!(board.drain(), "irq: .[2Jgone.\r\n");
}

#[test]
fn an_endless_line_of_a_sole_console_does_not_silence_the_logs() {
    let ([mut log, mut console], mut board) = sole();
    console.push(b"x");
    board.drain();
    board.mixer.turn.as_mut().unwrap().column = SOLE_LINE - 1;
    console.push(b"yz");
    log.push(b"here\n");
    assert_eq!(board.drain(), "y\r\nirq: here\r\nz");
}

#[test]
fn an_endless_log_line_is_cut() {
    let ([mut log, mut console], mut board) = sole();
    log.push(&[b'x'; 600]);
    console.push(b"ok\n");
    assert_eq!(board.drain(), format!("irq: {}\r\nok\nirq: {}", "x".repeat(512), "x".repeat(88)));
    console.push(b"ok\n");
    assert_eq!(board.drain(), "\r\nok\n", "an unfinished log line is not waited for");
}

#[test]
fn several_consoles_take_turns_by_line_and_are_named() {
    let ([mut a, mut b, _], mut board) = shared();
    a.push(b"1\r\n2\r\n");
    b.push(b"x\r\ny\r\n");
    assert_eq!(board.drain(), "a: 1\r\nb: x\r\na: 2\r\nb: y\r\n");
}

#[test]
fn a_line_of_a_shared_console_is_printed_when_it_is_whole() {
    let ([mut a, mut b, _], mut board) = shared();
    b.push(b"[    0.0");
    assert_eq!(board.drain(), "");
    a.push(b"one\r\n");
    assert_eq!(board.drain(), "a: one\r\n");
    board.now += TIMES.patience / 2;
    b.push(b"00] Linux\r\n");
    assert_eq!(board.drain(), "b: [    0.000] Linux\r\n");
}

#[test]
fn a_prompt_appears_within_half_a_second_and_its_rest_is_marked() {
    let ([mut a, mut b, mut c], mut board) = shared();
    b.push(b"login: ");
    assert_eq!(board.drain(), "");
    assert_eq!(board.wait(HERTZ / 2), "b: login: ");
    b.push(b"ro");
    assert_eq!(board.drain(), "ro", "it goes on in its own line");
    c.push(b"x\r\n");
    assert_eq!(board.wait(TIMES.silence + 1), "\r\nc: x\r\n");
    a.push(b"y\r\n");
    b.push(b"ot\r\n");
    assert_eq!(board.drain(), "a: y\r\nb| ot\r\n");
    b.push(b"next\r\n");
    assert_eq!(board.drain(), "b: next\r\n");
}

#[test]
fn a_prompt_of_the_console_that_is_typed_at_comes_at_once_when_nothing_else_is_there() {
    let ([mut a, mut b, _], mut board) = shared();
    a.push(b"/ # ");
    assert_eq!(board.drain(), "a: / # ");
    b.push(b"late\r\n");
    assert_eq!(board.drain(), "", "the user may be typing");
    assert_eq!(board.wait(TIMES.typing + 1), "\r\nb: late\r\n");
}

#[test]
fn echoes_come_at_once_and_a_flood_waits_for_the_typing() {
    let ([mut a, mut b, _], mut board) = shared();
    let mut flood = |board: &mut Board| {
        b.push(b"noise\r\n");
        board.drain()
    };
    assert_eq!(flood(&mut board), "b: noise\r\n");
    board.mixer.sources[0].echoes = true;
    a.push(b"l");
    assert_eq!(board.drain(), "a: l");
    board.now += TIMES.typing - 1;
    assert_eq!(flood(&mut board), "");
    a.push(b"s");
    assert_eq!(board.drain(), "s");
    board.now += TIMES.typing - 1;
    assert_eq!(flood(&mut board), "");
    a.push(b"\r\n");
    assert_eq!(board.drain(), "\r\nb: noise\r\nb: noise\r\n");
}

#[test]
fn one_that_is_typed_at_for_ever_does_not_silence_the_others() {
    let ([mut a, mut b, _], mut board) = shared();
    b.push(&b"noise\r\n".repeat(1000));
    let mut out = String::new();
    for _ in 0..100 {
        board.mixer.sources[0].echoes = true;
        a.push(b".");
        out += &board.wait(HERTZ / 10);
    }
    // In ten seconds, a line that takes four lets others in twice, for one line each at the least.
    assert!(out.matches("b: noise").count() >= 2, "{out}");
}

#[test]
fn a_flood_takes_every_other_line_at_most() {
    let ([mut a, mut b, _], mut board) = shared();
    b.push(&b"noise\r\n".repeat(100));
    a.push(b"1\r\n2\r\n3\r\n");
    let out = board.drain();
    for (line, text) in [(0, "a: 1\r"), (1, "b: noise\r"), (2, "a: 2\r"), (4, "a: 3\r"), (5, "b: noise\r")] {
        assert_eq!(out.split('\n').nth(line), Some(text), "{out}");
    }
}

#[test]
fn an_endless_line_of_a_shared_console_is_cut_and_marked() {
    let ([mut a, mut b, _], mut board) = shared();
    a.push(&[b'x'; 5000]);
    b.push(b"ok\r\n");
    let out = board.wait(HERTZ);
    assert_eq!(out, format!("a: {}\r\nb: ok\r\na| {}", "x".repeat(4096), "x".repeat(904)));
}

#[test]
fn empty_lines_are_lines() {
    let ([mut a, ..], mut board) = shared();
    for _ in 0..1000 {
        a.push(&[b'\n'; 100]);
        assert_eq!(board.drain(), "a: \n".repeat(100));
    }
}

#[test]
fn identical_lines_of_consoles_that_are_typed_at_together_are_printed_once() {
    let ([mut a, mut b, mut c], mut board) = shared();
    type_at_two(&mut board);
    a.push(b"same\r\n");
    c.push(b"same\r\n");
    assert_eq!(board.drain(), "c: same\r\n", "the other may print it yet");
    b.push(b"same\r\n");
    assert_eq!(board.drain(), "a+b: same\r\n");
    a.push(b"only a\r\n");
    assert_eq!(board.wait(HERTZ / 2), "a: only a\r\n");
    a.push(b"6.1\r\n");
    b.push(b"6.5\r\n");
    assert_eq!(board.wait(HERTZ / 2), "b: 6.5\r\na: 6.1\r\n");
}

#[test]
fn nobody_waits_for_one_that_prints_nothing() {
    let ([mut a, ..], mut board) = shared();
    type_at_two(&mut board);
    a.push(&b"x\r\n".repeat(100));
    assert_eq!(board.drain(), "");
    assert_eq!(board.wait(TIMES.patience), "a: x\r\n".repeat(100));
}

#[test]
fn after_a_line_of_one_the_same_lines_are_printed_once_again() {
    let ([mut a, mut b, _], mut board) = shared();
    type_at_two(&mut board);
    a.push(b"one\r\ntwo\r\n");
    b.push(b"a message\r\none\r\ntwo\r\n");
    assert_eq!(board.drain(), "b: a message\r\na+b: one\r\na+b: two\r\n");
}

#[test]
fn echoes_of_several_consoles_are_one_and_part_where_they_differ() {
    let ([mut a, mut b, _], mut board) = shared();
    type_at_two(&mut board);
    a.push(b"/ # ");
    b.push(b"/ # ");
    assert_eq!(board.drain(), "a+b: / # ");
    a.push(b"ls");
    assert_eq!(board.drain(), "");
    b.push(b"ls");
    assert_eq!(board.drain(), "ls");
    a.push(b"1\r\n");
    b.push(b"2\r\n");
    assert_eq!(board.wait(2 * HERTZ), "\r\nb| 2\r\na| 1\r\n");
}

#[test]
fn all_is_printed_at_once_where_somebody_waits_for_it() {
    let ([mut a, mut b, _], mut board) = shared();
    a.push(b"one");
    b.push(b"two");
    assert_eq!(board.bytes(Hurry::Yes), b"a: one\r\nb: two");
    assert_eq!(board.mixer.pending(), 0);
}

#[test]
fn colours_surround_the_lines_of_consoles_only() {
    let ([mut log, mut a, mut b], mut board) =
        board([("irq", RingKind::Log), ("a", RingKind::Console), ("b", RingKind::Console)], true);
    log.push(b"x\n");
    a.push(b"1\r\n");
    b.push(b"2\r\n");
    assert_eq!(board.drain(), "irq: x\r\n\x1b[32ma: 1\r\x1b[m\n\x1b[33mb: 2\r\x1b[m\n");
    a.push(b"#");
    b.push(b"2\r\n");
    assert_eq!(board.wait(HERTZ), "\x1b[33mb: 2\r\x1b[m\n\x1b[32ma: #");
    b.push(b"2\r\n");
    assert_eq!(board.wait(HERTZ), "\x1b[m\r\n\x1b[33mb: 2\r\x1b[m\n");
    let ([mut sole], mut board) = alone(true);
    sole.push(b"1\r\n");
    assert_eq!(board.drain(), "1\r\n");
}

#[test]
fn control_characters_can_be_made_visible() {
    let ([mut a, ..], mut board) = shared();
    board.mixer.visible = true;
    a.push(b"\x1b[1m\x07\t\x7f\r\n");
    assert_eq!(board.drain(), "a: ^[[1m^G\t^?\r\n");
}

#[test]
fn the_servers_own_lines_are_whole() {
    let ([_, mut b, _], mut board) = shared();
    b.push(b"login: ");
    assert_eq!(board.wait(HERTZ), "b: login: ");
    let own = board.mixer.own().unwrap();
    own.add(b"@x");
    own.say(format_args!("no {}", "x"));
    assert_eq!(board.wait(HERTZ), "\r\nserial-server: @x\r\nserial-server: no x\r\n");
    for _ in 0..1000 {
        board.mixer.own().unwrap().say(format_args!("{}", "y".repeat(100)));
    }
    let out = board.drain();
    assert!(out.lines().count() > 5 && out.lines().all(|line| line.len() == 115), "{out}");
}

proptest! {
    #[test]
    fn a_single_console_passes_byte_for_byte(
        pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), any::<bool>()), 0..20),
    ) {
        let ([mut console], mut board) = alone(false);
        let (mut sent, mut got) = (StdVec::new(), StdVec::new());
        for (piece, over) in pieces {
            console.push(&piece);
            sent.extend(piece);
            board.now += if over { HERTZ } else { 1 };
            got.extend(board.bytes(Hurry::No));
            // The console has used up nearly all of its share.
            if let Some(turn) = &mut board.mixer.turn {
                turn.column = SOLE_LINE - 10;
            }
        }
        prop_assert_eq!(got, sent);
    }

    /// Whatever consoles print and when, each byte is printed once and in order: without the names, and the line ends
    /// before them that are not the console's own.
    #[test]
    fn what_consoles_share_can_be_parted_again(
        pieces in prop::collection::vec((0usize..3, "[x\n]{0,9}", 0u64..400_000, any::<bool>()), 0..40),
        input in 1u8..8,
    ) {
        let (mut producers, mut board) = shared();
        board.mixer.set_input((0..3).filter(|n| input >> n & 1 != 0).collect());
        let (mut sent, mut out) = ([const { String::new() }; 3], String::new());
        for (n, piece, later, typed) in pieces {
            producers[n].push(piece.as_bytes());
            board.mixer.sources[n].echoes |= typed;
            sent[n] += &piece;
            out += &board.wait(later);
        }
        out += &board.wait(4 * HERTZ);
        prop_assert_eq!(board.mixer.pending(), 0);
        let mut got = [const { String::new() }; 3];
        for line in out.split_inclusive('\n') {
            // Consoles print no CR here, so what ends in one was interrupted.
            let text = line.strip_suffix("\r\n").unwrap_or(line);
            let (names, text) = text.split_once([':', '|']).unwrap();
            for name in names.split('+') {
                let n = ["a", "b", "c"].iter().position(|other| *other == name).unwrap();
                let open = got[n].chars().last().is_some_and(|last| last != '\n');
                prop_assert_eq!(open, line[names.len()..].starts_with('|'), "{}", out);
                got[n] += text.strip_prefix(' ').unwrap();
            }
        }
        prop_assert_eq!(got, sent);
    }
}
