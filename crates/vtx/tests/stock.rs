//! A stock, and what stays in it.

use vtx::stock::{Stock, Unused};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Spent,
    Other,
}

/// Uses one of the stock where `answers` come one after the other. With which ones that was tried, and the result.
fn spend(
    stock: &mut Stock<impl Iterator<Item = u64>>,
    answers: &[Result<(), Refusal>],
) -> (Vec<u64>, Result<(), Unused<Refusal>>) {
    let (mut tried, mut answers) = (Vec::new(), answers.iter());
    let with = |object| {
        tried.push(object);
        *answers.next().unwrap()
    };
    let result = stock.spend(with, |error| *error == Refusal::Spent);
    (tried, result)
}

#[test]
fn each_is_used_once_and_then_none_is_left() {
    let mut stock = Stock::new([3, 4].into_iter());
    assert_eq!(spend(&mut stock, &[Ok(())]), (vec![3], Ok(())));
    assert_eq!(spend(&mut stock, &[Ok(())]), (vec![4], Ok(())));
    assert_eq!(spend(&mut stock, &[]), (vec![], Err(Unused::Empty)));
}

#[test]
fn what_could_not_be_used_is_the_next_one_again() {
    let mut stock = Stock::new(3..4);
    for _ in 0..3 {
        assert_eq!(spend(&mut stock, &[Err(Refusal::Other)]), (vec![3], Err(Unused::Failed(Refusal::Other))));
    }
    assert_eq!(spend(&mut stock, &[Ok(())]), (vec![3], Ok(())));
}

#[test]
fn what_was_used_before_is_passed_over_for_good() {
    let mut stock = Stock::new(3..6);
    let refused = [Err(Refusal::Spent), Err(Refusal::Other)];
    assert_eq!(spend(&mut stock, &refused), (vec![3, 4], Err(Unused::Failed(Refusal::Other))));
    assert_eq!(spend(&mut stock, &[Err(Refusal::Spent), Err(Refusal::Spent)]), (vec![4, 5], Err(Unused::Empty)));
}
