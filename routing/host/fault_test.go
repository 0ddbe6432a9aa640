package host

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// requests are the calls of a Kernel, each with all message types that it
// sends.
func requests(t *testing.T) []struct {
	name  string
	call  func(*Kernel) error
	kinds []int
} {
	r, ru := route(t, "default via 10.0.1.1 dev eth1 table 20337 proto 76 onlink"),
		rule(t, ownRule)
	call := func(op routing.Op) func(*Kernel) error {
		return func(k *Kernel) error { return k.writing().do(op) }
	}
	return []struct {
		name  string
		call  func(*Kernel) error
		kinds []int
	}{
		{"Read", func(k *Kernel) error { _, err := k.Read(); return err },
			[]int{unix.RTM_GETLINK, unix.RTM_GETADDR, unix.RTM_GETNEXTHOP, unix.RTM_GETROUTE, unix.RTM_GETRULE, unix.RTM_GETNEIGH, unix.RTM_GETQDISC}},
		{"ReadOwned", func(k *Kernel) error { _, err := k.ReadOwned(routing.DefaultNumbers); return err },
			[]int{unix.RTM_GETLINK, unix.RTM_GETNEXTHOP, unix.RTM_GETROUTE, unix.RTM_GETRULE, unix.RTM_GETQDISC}},
		{"set route", call(routing.Op{Route: r}), []int{unix.RTM_GETLINK, unix.RTM_NEWROUTE}},
		{"add rule", call(routing.Op{Rule: ru}), []int{unix.RTM_NEWRULE}},
		{"set group", call(routing.Op{Group: &routing.LinkGroup{Link: "eth1", Group: 76}}), []int{unix.RTM_SETLINK}},
		{"ask for a way", func(k *Kernel) error {
			_, err := k.Ask([]routing.Query{{Dst: netip.MustParseAddr("10.0.1.2")}})
			return err
		},
			[]int{unix.RTM_GETLINK, unix.RTM_GETROUTE}},
		{"delete route", call(routing.Op{Delete: true, Route: r}), []int{unix.RTM_GETLINK, unix.RTM_GETROUTE, unix.RTM_DELROUTE}},
		{"delete rule", call(routing.Op{Delete: true, Rule: ru}), []int{unix.RTM_DELRULE}},
	}
}

// Every request can fail: the error tells its number, what is there stays, and
// the next call works. No request goes past Fault.
func TestFaultEveryRequest(t *testing.T) {
	_, k := open(t, uplinks)
	// gives ReadOwned a table
	do(t, k, routing.Op{Rule: rule(t, "5101: from 10.0.1.9 iif lo lookup 20337 proto 76")})
	for _, tt := range requests(t) {
		for _, kind := range tt.kinds {
			for _, errno := range []unix.Errno{unix.EPERM, unix.ENOBUFS,
				unix.EINTR, unix.EIO} {
				before := read(t, k)
				times := 0
				k.Fault = func(got int) error {
					if got != kind || times > 0 {
						return nil
					}
					times++
					return fmt.Errorf("fault: %w", errno)
				}
				if err := tt.call(k); !errors.Is(err, errno) || times != 1 {
					t.Errorf("%s: request %d failed %d times with %v: error %v",
						tt.name, kind, times, errno, err)
				}
				k.Fault = nil
				if diff := diffHost(before, read(t, k)); diff != "" {
					t.Errorf("%s: request %d failed: -before +after\n%s",
						tt.name, kind, diff)
				}
			}
		}
		var kinds []int
		k.Fault = func(kind int) error {
			if !slices.Contains(kinds, kind) {
				kinds = append(kinds, kind)
			}
			return nil
		}
		if err := tt.call(k); err != nil {
			t.Errorf("%s after faults: %v", tt.name, err)
		}
		slices.Sort(kinds)
		if diff := cmp.Diff(slices.Sorted(slices.Values(tt.kinds)), kinds); diff != "" {
			t.Errorf("%s: requests: -want +got\n%s", tt.name, diff)
		}
	}
}

// A dump that is interrupted is taken again, and given up after a bounded
// number of times.
func TestFaultInterruptedDump(t *testing.T) {
	_, k := open(t, uplinks)
	want := read(t, k)
	for _, kind := range requests(t)[0].kinds {
		for _, tt := range []struct {
			interrupted int
			ok          bool
		}{{1, true}, {dumpTries - 1, true}, {1 << 30, false}} {
			times := 0
			k.Fault = func(got int) error {
				if got != kind || times == tt.interrupted {
					return nil
				}
				times++
				return fmt.Errorf("fault: %w", netlink.ErrDumpInterrupted)
			}
			got, err := k.Read()
			if tt.ok && (err != nil || times != tt.interrupted ||
				diffHost(want, got) != "") {
				t.Errorf("request %d interrupted %d of %d times: error %v\n%s",
					kind, times, tt.interrupted, err, diffHost(want, got))
			}
			if !tt.ok && (!errors.Is(err, netlink.ErrDumpInterrupted) ||
				times != dumpTries) {
				t.Errorf("request %d interrupted %d times: error %v",
					kind, times, err)
			}
		}
	}
}

// A socket that is closed gives errors until Reopen, which stays in the
// namespace.
func TestReopen(t *testing.T) {
	ns, k := open(t, uplinks)
	do(t, k, plan(t)...)
	want := read(t, k)
	for _, tt := range []struct {
		name   string
		socket func() *nl.SocketHandle
		call   func() error
	}{
		{"raw, write", func() *nl.SocketHandle { return k.raw }, func() error { return k.writing().do(routing.Op{Rule: rule(t, ownRule)}) }},
		{"raw, ask", func() *nl.SocketHandle { return k.raw }, func() error {
			_, err := k.Ask([]routing.Query{{Dst: netip.MustParseAddr("10.0.1.2")}})
			return err
		}},
		{"dumps", func() *nl.SocketHandle { return k.dumps }, func() error { _, err := k.Read(); return err }},
	} {
		tt.socket().Close()
		for range 2 {
			if err := tt.call(); err == nil {
				t.Errorf("%s, closed: no error", tt.name)
			}
		}
		if err := k.Reopen(); err != nil {
			t.Fatal(err)
		}
		if err := tt.call(); err != nil {
			t.Errorf("%s, after Reopen: %v", tt.name, err)
		}
		if diff := diffHost(want, read(t, k)); diff != "" {
			t.Errorf("%s, after Reopen: -want +got\n%s", tt.name, diff)
		}
	}
	before := openFiles(t)
	for range 3 {
		if err := k.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	if got := openFiles(t); got != before {
		t.Errorf("%d files are open after Reopen, want %d", got, before)
	}
	ns.IP("link set eth1 mtu 1400")
	if h := read(t, k); !slices.ContainsFunc(h.Links,
		func(l routing.Link) bool { return l.Name == "eth1" && l.MTU == 1400 }) {
		t.Errorf("another namespace is read: %+v", h.Links)
	}
}

// roomFor limits the files of this process to those that are open, and a number
// more. The function that it returns takes the limit back.
func roomFor(t *testing.T, more int) (back func()) {
	t.Helper()
	open := map[string]bool{}
	files, err := os.ReadDir("/proc/self/fd")
	for _, f := range files {
		open[f.Name()] = true
	}
	number := 0
	for ; open[fmt.Sprint(number)] || more > 0; number++ {
		if !open[fmt.Sprint(number)] {
			more--
		}
	}
	var limit unix.Rlimit
	err = errors.Join(err, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit),
		unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(number),
			Max: limit.Max}))
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
	}
}

// A Reopen that finds no room leaves nothing open, and the old sockets.
func TestReopenWithoutRoom(t *testing.T) {
	_, k := open(t, uplinks)
	want, before, failed := read(t, k), openFiles(t), 0
	for more := range 5 {
		back := roomFor(t, more)
		err := k.Reopen()
		if back(); err != nil {
			failed++
		}
		if got := openFiles(t); got != before {
			t.Errorf("room for %d: %v, and %d files are open, want %d", more, err, got,
				before)
		}
		if diff := diffHost(want, read(t, k)); diff != "" {
			t.Errorf("room for %d: -want +got\n%s", more, diff)
		}
	}
	if failed < 3 {
		t.Errorf("%d calls failed: this shows little", failed)
	}
}

// A dump of a table that never existed is empty, in spite of the kernel's
// error; so is deleting from it.
func TestTableThatNeverWas(t *testing.T) {
	_, k := open(t, uplinks)
	do(t, k, routing.Op{Delete: true,
		Route: route(t, "default via 10.0.1.1 dev eth1 table 20337 proto 76 onlink")},
		routing.Op{Delete: true,
			Route: route(t,
				"::/0 via 2001:db8:1::1 dev eth1 table 20337 proto 76 onlink")})
}

// foreign are objects that are almost lasthop's.
var foreign = strings.Join([]string{
	"route add default via 10.0.0.1 table 20001 proto 18",     // in lasthop's range, not lasthop's
	"route add default via 10.0.0.1 table 1000 proto 76",      // lasthop's protocol, outside the range
	"rule add pref 5100 from 10.0.0.7 lookup 20001 proto 18",  // names a table of lasthop's range
	"rule add pref 30000 from 10.0.0.8 lookup 20002 proto 76", // outside the block
	"route add default via 10.0.0.1 table 20002 proto 76",     // lasthop's, but no rule names it
	"route add default via 10.0.0.1 table 20003 proto 76",     // lasthop's, but no rule names it
	"link set eth0 group 76",
}, "\n")

// ReadOwned reads what lasthop owns of all that Read reads.
func TestReadOwned(t *testing.T) {
	for _, tt := range []struct {
		name, batch string
		ops         []routing.Op
	}{
		{"nothing", "", nil},
		{"own", "", plan(t)},
		{"own, deleted", "", append(plan(t), undo(plan(t))...)},
		{"rules alone are left", "", append(plan(t), undo(plan(t)[:4])...)},
		{"routes alone are left", "", append(plan(t), undo(plan(t)[5:])...)},
		{"foreign", foreign, nil},
		{"own and foreign", foreign, plan(t)},
		{"next hop objects", "nexthop add id 5 via 10.0.0.1 dev eth0\nroute add default nhid 5 table 20003 proto 76\nrule add pref 5000 lookup 20003 protocol 76", nil},
		{"link down", "link set eth1 down", plan(t)[4:]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ns, k := open(t, uplinks)
			ns.Sysctl("net.ipv4.nexthop_compat_mode=0")
			ns.Batch(tt.batch)
			do(t, k, tt.ops...)
			for _, reader := range []*Kernel{k, again(t, k, ns.Path)} {
				want := routing.Owned(read(t, reader), routing.DefaultNumbers)
				got, err := reader.ReadOwned(routing.DefaultNumbers)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got, compareNetip,
					comparePrefix); diff != "" {
					t.Errorf("-Owned(Read) +ReadOwned\n%s", diff)
				}
			}
			// Without a Read before, it reads the tables that
			// lasthop's rules name and that were written.
			k.tables = map[uint32]bool{}
			do(t, k, tt.ops...)
			want, err := k.ReadOwned(routing.DefaultNumbers)
			if err != nil {
				t.Fatal(err)
			}
			if got := routing.Owned(read(t, k),
				routing.DefaultNumbers); tt.batch == "" {
				if diff := cmp.Diff(got, want, compareNetip,
					comparePrefix); diff != "" {
					t.Errorf("without Read: -Owned(Read) +ReadOwned\n%s", diff)
				}
			}
		})
	}
}

// again opens the namespace a second time.
func again(t *testing.T, _ *Kernel, path string) *Kernel {
	t.Helper()
	k, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

// manyAddresses is a host with 10,000 addresses in one /16, and a path of
// lasthop.
func manyAddresses(b *testing.B) *Kernel {
	ns, k := open(b, uplinks)
	var addrs strings.Builder
	for i := range 10000 {
		fmt.Fprintf(&addrs, "addr add 172.16.%d.%d/16 dev eth1\n", 1+i/250, 1+i%250)
	}
	ns.Batch(addrs.String())
	ns.Batch("route add default via 172.16.0.1 dev eth1 table 20337 proto 76 onlink\n" +
		"rule add pref 5100 from 172.16.0.0/16 iif lo lookup 20337 protocol 76")
	return k
}

// BenchmarkReadManyAddresses and BenchmarkReadOwned read a host with 10,000
// addresses.
func BenchmarkReadManyAddresses(b *testing.B) {
	k := manyAddresses(b)
	for b.Loop() {
		if _, err := k.Read(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadOwned(b *testing.B) {
	k := manyAddresses(b)
	for b.Loop() {
		if _, err := k.ReadOwned(routing.DefaultNumbers); err != nil {
			b.Fatal(err)
		}
	}
}
