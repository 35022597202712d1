//! Who is chosen, and what is counted.

use super::*;

fn address(n: u16) -> SocketAddr {
    ([127, 0, 0, 1], n).into()
}

fn weight(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn balancer(members: &[(u16, u32, Tier)]) -> Balancer {
    let mut balancer = Balancer::default();
    for &(port, share, tier) in members {
        balancer.put(address(port), weight(share), tier);
    }
    balancer
}

fn choose(balancer: &mut Balancer) -> u16 {
    balancer.choose(&[], WhenAllDown::Refuse).unwrap().port()
}

#[test]
fn equals_are_chosen_in_turn() {
    let mut three = balancer(&[1, 2, 3].map(|port| (port, 1, Tier::Primary)));
    let round: Vec<_> = (0..6).map(|_| choose(&mut three)).collect();
    assert_eq!(round, [1, 2, 3, 1, 2, 3]);
    for port in [2, 3, 1] {
        three.give_back(address(port));
    }
    let round: Vec<_> = (0..3).map(|_| choose(&mut three)).collect();
    assert_eq!(
        round,
        [1, 2, 3],
        "the one not chosen for the longest time goes first"
    );
}

#[test]
fn of_equals_the_one_that_waits_longest_goes_first_whatever_its_address() {
    let mut three = balancer(&[1, 2, 3].map(|port| (port, 1, Tier::Primary)));
    for expected in [1, 2, 3] {
        assert_eq!(choose(&mut three), expected);
    }
    three.give_back(address(1));
    assert_eq!(choose(&mut three), 1);
    for port in [1, 2, 3] {
        three.give_back(address(port));
    }
    let round = [(); 3].map(|()| choose(&mut three));
    assert_eq!(round, [2, 3, 1]);
}

/// Two upstreams with five connections each, and a newcomer with so many of its own.
fn newcomer(own: usize) -> Balancer {
    let mut three = balancer(&[1, 2].map(|port| (port, 1, Tier::Primary)));
    for _ in 0..10 {
        choose(&mut three);
    }
    for _ in 0..own {
        three.adopt(address(3));
    }
    three.put(address(3), weight(1), Tier::Primary);
    assert!(three.ease_in(address(3)));
    three
}

#[test]
fn a_newcomer_counts_as_loaded_as_the_others_its_own_connections_included() {
    for own in [0, 3] {
        let mut three = newcomer(own);
        let round = [(); 4].map(|()| choose(&mut three));
        assert_eq!(round, [3, 1, 2, 3], "{own}");
    }
}

#[test]
fn an_upstream_that_went_down_counts_as_no_newcomer_of_before() {
    let mut three = newcomer(0);
    three.put(address(3), weight(1), Tier::Down);
    three.put(address(3), weight(1), Tier::Primary);
    let round = [(); 5].map(|()| choose(&mut three));
    assert_eq!(round, [3; 5]);
}

#[test]
fn twice_the_weight_gets_twice_the_connections() {
    let mut two = balancer(&[(1, 2, Tier::Primary), (2, 1, Tier::Primary)]);
    for _ in 0..300 {
        choose(&mut two);
    }
    assert_eq!((two.active(address(1)), two.active(address(2))), (200, 100));
}

#[test]
fn the_greatest_weights_are_compared_without_rounding() {
    let mut two = balancer(&[
        (1, u32::MAX, Tier::Primary),
        (2, u32::MAX - 1, Tier::Primary),
    ]);
    assert_eq!(
        [choose(&mut two), choose(&mut two), choose(&mut two)],
        [1, 2, 1]
    );
}

#[test]
fn backups_serve_when_no_primary_is_left() {
    let mut mixed = balancer(&[(1, 1, Tier::Primary), (2, 1, Tier::Backup)]);
    assert_eq!(
        [choose(&mut mixed), choose(&mut mixed)],
        [1, 1],
        "however loaded it is"
    );
    let next = mixed.choose(&[address(1)], WhenAllDown::Refuse);
    assert_eq!(next, Ok(address(2)), "the primary was tried");
    mixed.put(address(1), weight(1), Tier::Down);
    assert_eq!(choose(&mut mixed), 2, "the primary is down");
}

#[test]
fn those_that_are_down_are_tried_only_if_all_are_and_the_group_says_so() {
    let mut mixed = balancer(&[(1, 1, Tier::Primary), (2, 1, Tier::Down), (3, 1, Tier::Out)]);
    let tried = [address(1)];
    assert_eq!(
        mixed.choose(&tried, WhenAllDown::TryAll),
        Err(NoLease::AllTried)
    );
    mixed.remove(address(1));
    assert_eq!(
        mixed.choose(&[], WhenAllDown::Refuse),
        Err(NoLease::NoneHealthy)
    );
    assert_eq!(mixed.choose(&[], WhenAllDown::TryAll), Ok(address(2)));
    assert_eq!(
        mixed.choose(&[address(2)], WhenAllDown::TryAll),
        Err(NoLease::AllTried)
    );
    mixed.remove(address(2));
    assert_eq!(
        mixed.choose(&[], WhenAllDown::TryAll),
        Err(NoLease::NoneHealthy)
    );
}

#[test]
fn a_removed_upstream_is_counted_until_its_last_connection_ends() {
    let mut one = balancer(&[(1, 1, Tier::Primary)]);
    choose(&mut one);
    one.remove(address(1));
    assert_eq!((one.active(address(1)), one.open()), (1, 1));
    one.put(address(1), weight(1), Tier::Primary);
    choose(&mut one);
    assert_eq!(one.active(address(1)), 2, "it came back and kept its count");
    one.remove(address(1));
    one.give_back(address(1));
    one.give_back(address(1));
    assert_eq!(
        (one.members.len(), one.open()),
        (0, 0),
        "now it is forgotten"
    );
}

#[test]
fn only_an_upstream_that_comes_to_serve_is_a_newcomer() {
    let mut one = Balancer::default();
    let mut put = |tier| one.put(address(1), weight(1), tier);
    assert!(!put(Tier::Out));
    assert!(!put(Tier::Down));
    assert!(put(Tier::Primary));
    assert!(!put(Tier::Primary), "it served before");
    assert!(!put(Tier::Backup), "it served before");
    assert!(!put(Tier::Out));
}

#[test]
fn a_newcomer_counts_as_loaded_as_the_others_for_its_weight() {
    let mut three = balancer(&[1, 2].map(|port| (port, 1, Tier::Primary)));
    for _ in 0..10 {
        choose(&mut three);
    }
    three.put(address(3), weight(2), Tier::Primary);
    assert!(three.ease_in(address(3)));
    let round = [(); 8].map(|()| choose(&mut three));
    assert_eq!(round, [3, 1, 2, 3, 1, 2, 3, 3]);
}

#[test]
fn a_newcomer_comes_to_its_share_in_so_many_steps() {
    let mut three = newcomer(0);
    let mut steps = 1;
    while three.ease(address(3)) {
        steps += 1;
    }
    assert_eq!(steps, 5, "one for each connection that it lacks");
    assert_eq!([(); 5].map(|()| choose(&mut three)), [3; 5]);
    assert!(!three.ease_in(address(3)), "it lacks none any more");
    assert!(!three.ease(address(9)), "nobody is there");
}

#[test]
fn a_failed_connection_counts_as_load_until_it_is_forgotten() {
    let mut two = balancer(&[1, 2].map(|port| (port, 1, Tier::Primary)));
    two.remember_failed(address(1));
    two.remember_failed(address(1));
    assert_eq!([(); 2].map(|()| choose(&mut two)), [2, 2]);
    two.forget_failed(address(1));
    two.forget_failed(address(1));
    assert_eq!([(); 2].map(|()| choose(&mut two)), [1, 1]);
    two.remember_failed(address(9));
    two.forget_failed(address(9));
    assert_eq!(two.open(), 4, "they are not open");
}

#[test]
fn those_that_serve_are_primaries_and_backups() {
    let tiers = [Tier::Primary, Tier::Backup, Tier::Backup, Tier::Down];
    let mixed = balancer(&[0, 1, 2, 3].map(|n| (n + 1, 1, tiers[usize::from(n)])));
    assert_eq!((mixed.serving(), mixed.serves()), (3, true));
    let none = balancer(&[(1, 1, Tier::Down), (2, 1, Tier::Out)]);
    assert_eq!((none.serving(), none.serves()), (0, false));
}

#[test]
fn ranks_are_equal_exactly_if_neither_comes_first() {
    let rank = |load, port| Rank {
        load,
        weight: weight(1),
        turn: 0,
        address: address(port),
    };
    assert_eq!(rank(1, 1), rank(1, 1));
    assert_ne!(rank(1, 1), rank(1, 2));
    assert!(rank(1, 2) < rank(2, 1));
}
