//! The IPC buffer, on its stand-in: no kernel is involved. One test, as there is one buffer.

use sel4::{AbsoluteCPtr, CPtr, CPtrWithDepth, Cap, MessageInfo, cap, ipc_buffer, sys};

fn raw(offset: usize) -> u64 {
    // SAFETY: the stand-in is as large as the IPC buffer, and this process has one thread that uses it.
    unsafe { sys::ipc_buffer().add(offset).cast::<u64>().read() }
}

#[test]
fn words_bytes_and_paths_are_where_the_kernel_looks_for_them() {
    let buffer = ipc_buffer();

    buffer.set_word(5, 0x1122_3344_5566_7788);
    assert_eq!(raw(sys::offsetof_seL4_IPCBuffer_msg + 40), 0x1122_3344_5566_7788);
    assert_eq!(buffer.word(5), 0x1122_3344_5566_7788);

    // Behind the longest message there is nothing, and nothing is overwritten.
    let behind = raw(sys::offsetof_seL4_IPCBuffer_userData);
    buffer.set_word(MessageInfo::MAX_LENGTH, !0);
    assert_eq!(buffer.word(MessageInfo::MAX_LENGTH), 0);
    assert_eq!(raw(sys::offsetof_seL4_IPCBuffer_userData), behind);

    assert_eq!(buffer.write_bytes(2, b"portcullis"), 10);
    assert_eq!(buffer.word(2).to_le_bytes(), *b"portcull");
    let mut back = [0; 10];
    assert_eq!(buffer.read_bytes(2, &mut back), 10);
    assert_eq!(&back, b"portcullis");

    // A message that is too long is cut at the end of the last word.
    assert_eq!(buffer.write_bytes(MessageInfo::MAX_LENGTH - 1, &[7; 20]), 8);
    assert_eq!(buffer.write_bytes(MessageInfo::MAX_LENGTH + 3, &[7; 20]), 0);
    assert_eq!(raw(sys::offsetof_seL4_IPCBuffer_userData), behind);

    buffer.set_cap(1, CPtr::from_bits(0x42));
    assert_eq!(raw(sys::offsetof_seL4_IPCBuffer_caps_or_badges + 8), 0x42);

    let cnode: cap::CNode = Cap::from_bits(3);
    let slot: AbsoluteCPtr = cnode.absolute_cptr(CPtrWithDepth::from_bits_with_depth(9, 12));
    buffer.set_recv_slot(&slot);
    assert_eq!(raw(sys::offsetof_seL4_IPCBuffer_receiveCNode), 3);
    assert_eq!(raw(sys::offsetof_seL4_IPCBuffer_receiveIndex), 9);
    assert_eq!(raw(sys::offsetof_seL4_IPCBuffer_receiveDepth), 12);
}
