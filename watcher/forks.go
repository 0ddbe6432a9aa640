package watcher

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Messages of the proc connector (linux/connector.h, linux/cn_proc.h): a
// netlink header, a cn_msg, a proc_event.
const (
	offWhat  = 16 + 20
	offData  = offWhat + 16 // behind what, cpu and timestamp_ns
	offChild = offData + 8  // of a fork: parent_pid, parent_tgid, child_pid, child_tgid
	sizeMin  = offData + 4

	offForkParent = offData + 4
	// of an exit: process_pid, process_tgid, exit_code, exit_signal,
	// parent_pid, parent_tgid
	offExitParent = offData + 20

	procNone = 0
	procFork = 1
	procExit = 0x80000000

	cnProc   = 1 // CN_IDX_PROC and CN_VAL_PROC
	mcListen = 1
	mcIgnore = 2
)

// probeTime is how long the kernel gets to acknowledge the subscription. In a
// container it does not refuse: it is silent.
const probeTime = 200 * time.Millisecond

// forks receives the kernel's events of processes that are born or end and
// whose parent is one of the masters.
type forks struct {
	file *os.File
	conn syscall.RawConn
}

// fork is a master whose children have changed.
type fork struct {
	master int // process id; 0: events were lost, look at all
	ended  int // the child that has ended, still a zombie; 0: one was born
	at     time.Time
}

// openForks subscribes and makes sure that events will come: none come in
// another network, process or user namespace than the first.
func openForks() (*forks, error) {
	fd, err := unix.Socket(unix.AF_NETLINK,
		unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_CONNECTOR)
	if err != nil {
		return nil, fmt.Errorf("open its socket: %w", err)
	}
	f, err := forksOf(os.NewFile(uintptr(fd), "proc connector"))
	if err != nil {
		return nil, err
	}
	if err := f.listen(fd); err != nil {
		f.file.Close()
		return nil, err
	}
	return f, nil
}

func forksOf(file *os.File) (*forks, error) {
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("open its socket: %w", err)
	}
	return &forks{file, conn}, nil
}

func (f *forks) listen(fd int) error {
	if err := f.filter(nil); err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK,
		Groups: cnProc}); err != nil {
		return fmt.Errorf("bind its socket: %w", err)
	}
	if err := control(fd, mcListen); err != nil {
		return err // Detector and deaf add the words around it
	}
	end := time.Now().Add(probeTime)
	for left := time.Until(end); left > 0; left = time.Until(end) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}},
			int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for its answer: %w", err)
		}
		if n > 0 && acknowledged(fd) {
			return nil
		}
	}
	return errors.New("no answer from the kernel")
}

// control sends a subscription message.
func control(fd int, op uint32) error {
	b, err := binary.Append(nil, binary.NativeEndian, struct {
		Size        uint32 // of the message
		Type, Flags uint16
		Seq, PID    uint32

		Index, Value, CnSeq, Ack uint32
		Len, CnFlags             uint16 // Len of what follows

		Op uint32
	}{Size: 16 + 20 + 4, Type: unix.NLMSG_DONE, Index: cnProc, Value: cnProc, Len: 4, Op: op})
	if err != nil {
		return err
	}
	return unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// acknowledged reads one message and reports whether it is an acknowledgement
// without an error.
func acknowledged(fd int) bool {
	b := make([]byte, 256)
	n, from, err := unix.Recvfrom(fd, b, 0)
	if err != nil || n < sizeMin || !fromKernel(from) {
		return false
	}
	return binary.NativeEndian.Uint32(b[offWhat:]) == procNone &&
		binary.NativeEndian.Uint32(b[offData:]) == 0
}

func fromKernel(from unix.Sockaddr) bool {
	nl, ok := from.(*unix.SockaddrNetlink)
	return ok && nl.Pid == 0
}

// maxFiltered is how many masters the filter can tell apart: a jump reaches 255
// instructions.
const maxFiltered = 100

// filter passes the events of children of the masters, in the kernel, so that
// the other forks of a busy machine cost nothing.
func (f *forks) filter(masters []int) error {
	prog := program(masters)
	var set error
	err := f.conn.Control(func(fd uintptr) {
		set = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
	})
	if err = errors.Join(err, set); err != nil {
		return fmt.Errorf("filter its messages: %w", err)
	}
	return nil
}

// program is the filter in classic BPF. A load is big-endian there, the events
// are not: constants are swapped.
func program(masters []int) []unix.SockFilter {
	load := func(off int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS,
			K: uint32(off)}
	}
	equal := func(k uint32, yes, no int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: swap(k),
			Jt: uint8(yes), Jf: uint8(no)}
	}
	pass, drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	if len(masters) > maxFiltered {
		return []unix.SockFilter{pass}
	}
	n := len(masters)
	prog := []unix.SockFilter{load(offWhat), equal(procFork, 4, 0), equal(procExit, n+6, 0),
		equal(procNone, 1, 0), drop, pass}
	for _, off := range []int{offForkParent, offExitParent} {
		prog = append(prog, load(off))
		for i, pid := range masters {
			prog = append(prog, equal(uint32(pid), n-i, 0))
		}
		prog = append(prog, drop, pass)
	}
	return prog
}

// swap gives a number the byte order in which the filter sees it.
func swap(k uint32) uint32 {
	return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, k))
}

// next waits for an event. It fails when the socket is closed.
func (f *forks) next() (fork, error) {
	b := make([]byte, 256)
	for {
		var n int
		var from unix.Sockaddr
		var err error
		if wait := f.conn.Read(func(fd uintptr) bool {
			n, from, err = unix.Recvfrom(int(fd), b, 0)
			return !errors.Is(err, unix.EAGAIN)
		}); wait != nil {
			return fork{}, wait
		}
		switch {
		case errors.Is(err, unix.ENOBUFS):
			return fork{at: time.Now()}, nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fork{}, fmt.Errorf("read its messages: %w", err)
		}
		if f, ok := parse(b[:n]); ok && fromKernel(from) {
			f.at = stamped(b)
			return f, nil
		}
	}
}

// parse returns the process whose child was born or has ended. Threads are no
// children.
func parse(b []byte) (fork, bool) {
	if len(b) < offExitParent+4 {
		return fork{}, false
	}
	word := func(off int) int { return int(binary.NativeEndian.Uint32(b[off:])) }
	switch what := binary.NativeEndian.Uint32(b[offWhat:]); {
	case what == procFork && word(offChild) == word(offChild+4):
		return fork{master: word(offForkParent)}, true
	case what == procExit && word(offData) == word(offData+4):
		return fork{master: word(offExitParent), ended: word(offData)}, true
	}
	return fork{}, false
}

// stamped is when an event happened; the kernel's clock is CLOCK_MONOTONIC.
func stamped(b []byte) time.Time {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return time.Now()
	}
	return time.Now().Add(
		time.Duration(int64(binary.NativeEndian.Uint64(b[offWhat+8:])) - now.Nano()))
}

// close ends the subscription: the kernel counts its listeners, and old kernels
// do not count down when a socket is closed.
func (f *forks) close() {
	_ = f.conn.Control(func(fd uintptr) { _ = control(int(fd), mcIgnore) })
	f.file.Close()
}
