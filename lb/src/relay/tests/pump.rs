//! One direction: its buffer, its counts, its flushes and its turns.

use super::*;

fn turn<R, W>(pump: &mut Pump, reader: &mut R, writer: &mut W, count: &AtomicU64) -> bool
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut cx = Context::from_waker(Waker::noop());
    match pump.poll(&mut cx, reader, writer, count) {
        Poll::Ready(PumpEvent::ReaderEnded(Ok(()))) => true,
        Poll::Ready(PumpEvent::ReaderEnded(Err(error)) | PumpEvent::WriterLost(error)) => {
            panic!("{error}")
        }
        Poll::Pending => false,
    }
}

#[tokio::test]
async fn a_pump_holds_a_buffer_only_while_bytes_are_in_flight() {
    let (count, mut pump) = (AtomicU64::new(0), Pump::new(TO_CLIENT));
    let ((mut from, mut reader), (mut writer, mut to)) = (duplex(64), duplex(16));
    assert!(!turn(&mut pump, &mut reader, &mut writer, &count));
    assert!(pump.buffer.is_none(), "a silent connection holds none");
    from.write_all(&[7; 40]).await.unwrap();
    assert!(!turn(&mut pump, &mut reader, &mut writer, &count));
    assert!(pump.buffer.is_some(), "the writer took only sixteen bytes");
    assert_eq!(count.load(Relaxed), 16, "and only those are counted");
    let mut bytes = [0; 16];
    for _ in 0..2 {
        to.read_exact(&mut bytes).await.unwrap();
        assert!(!turn(&mut pump, &mut reader, &mut writer, &count));
    }
    assert!(pump.buffer.is_none(), "everything is written");
    drop(from);
    assert!(
        turn(&mut pump, &mut reader, &mut writer, &count),
        "the end is passed on"
    );
    assert_eq!(count.load(Relaxed), 40);
}

#[tokio::test]
async fn a_pump_counts_what_it_drops_from_then_on() {
    let (count, mut pump) = (AtomicU64::new(0), Pump::new(TO_CLIENT));
    let ((mut from, mut reader), (mut writer, _to)) = (duplex(64), duplex(16));
    from.write_all(&[7; 40]).await.unwrap();
    assert!(!turn(&mut pump, &mut reader, &mut writer, &count));
    pump.discard();
    from.write_all(&[7; 10]).await.unwrap();
    assert!(!turn(&mut pump, &mut reader, &mut writer, &count));
    assert_eq!((pump.dropped(), count.load(Relaxed)), (10, 16));
}

#[tokio::test]
async fn a_pump_flushes_when_there_is_nothing_more_to_write() {
    let (count, mut pump) = (AtomicU64::new(0), Pump::new(TO_CLIENT));
    let ((mut from, mut reader), (writer, mut to)) = (duplex(64), duplex(64));
    let mut writer = BufWriter::new(writer);
    from.write_all(b"hello").await.unwrap();
    assert!(!turn(&mut pump, &mut reader, &mut writer, &count));
    let mut bytes = [0; 5];
    timeout(BOUND, to.read_exact(&mut bytes))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&bytes, b"hello");
}

#[test]
fn a_pump_that_could_go_on_for_ever_lets_others_have_a_turn() {
    let (count, mut pump) = (AtomicU64::new(0), Pump::new(TO_CLIENT));
    assert!(!turn(&mut pump, &mut repeat(1), &mut sink(), &count));
    let moved = count.load(Relaxed);
    let most = u64::from(BUFFERS_A_TURN) * TO_CLIENT as u64;
    assert!((1..=most).contains(&moved), "{moved}");
}
