use super::*;

fn unit(i: u64) -> Bytes {
    Bytes::from(i.to_le_bytes().to_vec())
}

#[test]
fn neighbours_are_claimed_together_and_once() {
    let units = Units::new(&Arc::default());
    assert_eq!(units.claim((0..10).filter(|&unit| unit != 5), false), [0..4, 4..5, 6..10]);
    units.claim([5], false);
    units.arrived(5, Ok(unit(5)));
    assert!(matches!(units.find(5), Found::Here(_)));
    units.arrived(0, Ok(unit(0)));
    units.arrived(1, Err(Failure::Replaced));
    assert!(matches!(units.find(0), Found::Here(_)));
    assert!(matches!(units.find(2), Found::Flying(_)));
    // A failure is one for everybody, for a while.
    assert!(matches!(units.find(1), Found::Failed(Failure::Replaced)));
    assert!(units.claim(0..3, false).is_empty());
    // If nothing came at all, it is one for all units.
    units.arrived(3, Err(Failure::Late(String::new())));
    assert!(matches!(units.find(20), Found::Failed(Failure::Late(_))));
    units.arrived(2, Ok(unit(2)));
    assert!(matches!(units.find(20), Found::Nothing));
    std::thread::sleep(REMEMBERED);
    assert_eq!(units.claim(0..3, false).first(), Some(&(1..2)));
}

#[test]
fn what_nobody_read_is_bounded_and_what_was_read_goes_first() {
    let units = Units::new(&Arc::default());
    let all = MOST as u64 * 4;
    let ahead = |from| units.claim(from..all, true).iter().map(|run| run.end - run.start).sum::<u64>();
    let most = units.most_unread() as u64;
    assert_eq!(ahead(0), most);
    assert_eq!(ahead(most), 0);
    (0..most).for_each(|i| units.arrived(i, Ok(unit(i))));
    assert_eq!(ahead(most), 0);
    (0..100).for_each(|i| assert!(matches!(units.find(i), Found::Here(_))));
    assert_eq!(ahead(most), 100);
    (most..most + 100).for_each(|i| units.arrived(i, Ok(unit(i))));
    assert!(matches!(units.find(100), Found::Here(bytes) if bytes == unit(100)));
    let gone = (0..100).filter(|i| matches!(units.find(*i), Found::Nothing)).count();
    assert_eq!(gone, most as usize + 100 - MOST);
}

#[test]
fn what_can_be_had_again_is_not_kept_for_long() {
    let units = Units::new(&Arc::default());
    units.set_cheap(true);
    for i in 0..3 * MOST_READ_IF_CHEAP as u64 {
        units.claim([i, i + 1], true);
        units.arrived(i, Ok(unit(i)));
        assert!(matches!(units.find(i), Found::Here(_)));
    }
    let here = (0..100).filter(|&i| matches!(units.find(i), Found::Here(_))).count();
    assert_eq!(here, MOST_READ_IF_CHEAP + 1);
    // Unless the disk turns out to keep nothing.
    units.set_cheap(false);
    for i in 100..200 {
        units.claim([i], true);
        units.arrived(i, Ok(unit(i)));
        assert!(matches!(units.find(i), Found::Here(_)));
    }
    assert!((100..200).all(|i| matches!(units.find(i), Found::Here(_))));
}

#[test]
fn objects_share_the_memory() {
    let open = Arc::default();
    let mut objects: Vec<Units> = (0..4).map(|_| Units::new(&open)).collect();
    let fill = |units: &Units, from: u64| {
        for i in from..from + MOST as u64 {
            units.claim([i], true);
            units.arrived(i, Ok(unit(i)));
            assert!(matches!(units.find(i), Found::Here(_)));
        }
        units.lock().held.len()
    };
    assert_eq!(objects.iter().map(|units| fill(units, 0)).sum::<usize>(), MOST);
    objects.truncate(1);
    assert_eq!(fill(&objects[0], 1000), MOST);
    objects.extend((0..100).map(|_| Units::new(&open)));
    assert_eq!(objects[0].claim(2000..3000, true).iter().map(|run| run.end - run.start).sum::<u64>(), 6);
}

#[test]
fn whoever_waits_is_told() {
    let units = Units::new(&Arc::default());
    units.claim(0..2, false);
    let flight = |i| match units.find(i) {
        Found::Flying(flight) => flight,
        _ => panic!("it is on its way"),
    };
    let (first, second) = (flight(0), flight(1));
    let waiting = std::thread::spawn(move || first.wait(Duration::from_secs(30)));
    units.arrived(0, Ok(unit(0)));
    assert!(matches!(waiting.join(), Ok(Some(Ok(bytes))) if bytes == unit(0)));
    assert!(second.wait(Duration::from_millis(10)).is_none());
    // Whoever asks next does not wait as long again.
    units.was_late(1, &Failure::Late(String::new()));
    assert!([1, 9].into_iter().all(|unit| matches!(units.find(unit), Found::Failed(Failure::Late(_)))));
    assert!(matches!(units.is_late(), Some(Failure::Late(_))));
    units.arrived(1, Ok(unit(1)));
    assert!(units.is_late().is_none());
    assert!(matches!(units.find(9), Found::Nothing));
}

#[test]
fn what_is_wrong_is_fetched_anew_however_often() {
    let units = Units::new(&Arc::default());
    for _ in 0..100 {
        assert_eq!(units.claim([7], true).len(), 1);
        units.arrived(7, Ok(unit(7)));
        units.forget(7);
        assert!(matches!(units.find(7), Found::Nothing));
    }
    assert_eq!(units.lock().unread, 0);
}
