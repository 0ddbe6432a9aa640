package host

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
)

// watch subscribes until the test ends.
func watch(t *testing.T, k *Kernel) <-chan Event {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	c, err := k.Subscribe(ctx, routing.DefaultNumbers)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// next waits for an event; none within 5 s fails the test.
func next(t *testing.T, c <-chan Event) Event {
	t.Helper()
	select {
	case e, ok := <-c:
		if !ok {
			t.Fatal("the channel is closed")
		}
		return e
	case <-time.After(5 * time.Second):
		t.Fatal("no event")
	}
	return Event{}
}

// fence is an event of its own that is made last, so that all earlier events
// have come.
const fence = "rule added: 30000: from all fwmark 0xfe lookup 999"

// until makes the fence and returns the events before it.
func until(t *testing.T, ns *nstest.NS, c <-chan Event) (events []Event) {
	t.Helper()
	ns.Batch("rule add pref 30000 fwmark 0xfe lookup 999\nrule del pref 30000\n")
	for {
		e := next(t, c)
		if strings.HasPrefix(e.Text, strings.Replace(fence, "added", "deleted", 1)) {
			return events
		}
		if e.Text != fence {
			events = append(events, e)
		}
	}
}

// texts are the events, one a line, sorted: the kernel reports carriers in its
// own time.
func texts(events []Event) string {
	var lines []string
	for _, e := range events {
		lines = append(lines, e.Kind+": "+e.Text+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// changes makes the changes of a batch and returns their events. The kernel
// reports an IPv6 address a little later, when its DAD work has run: it would
// not report one that was deleted before.
func changes(t *testing.T, ns *nstest.NS, c <-chan Event, batch string) (events []Event) {
	t.Helper()
	for line := range strings.Lines(batch) {
		ns.IP(line)
		for told := !strings.HasPrefix(line, "addr add"); !told; {
			e := next(t, c)
			told = e.Kind == "address"
			events = append(events, e)
		}
	}
	return append(events, until(t, ns, c)...)
}

// Every kind of change has an event, in words that name it; a write without
// effect has none.
func TestEvents(t *testing.T) {
	for _, tt := range []struct{ name, before, batch, want string }{
		{"admin down flushes IPv4 routes and tells of the link alone", "route add default via 10.0.1.1 table 1000", "link set eth1 down",
			"address: address deleted: 2001:db8:1::10/64 dev eth1\nlink: link eth1 down\nlink: link p1 no carrier\n" +
				"route: IPv6 route deleted: 2001:db8:1::/64 dev eth1 proto kernel metric 256\n"},
		{"admin up", "link set eth1 down", "link set eth1 up",
			"link: link eth1 up\nlink: link p1 carrier\nroute: route added: 10.0.1.0/24 dev eth1 proto kernel scope link src 10.0.1.10\n"},
		{"carrier", "", "link set p1 down", "link: link eth1 no carrier\nlink: link p1 down\n"},
		{"link added and deleted", "", "link add v0 type veth peer name v1\nlink del v0",
			"link: link v0 added\nlink: link v0 deleted\nlink: link v1 added\nlink: link v1 deleted\n"},
		{"rename", "link add v0 type veth peer name v1", "link set v0 name wan1", "link: link wan1 renamed from v0\n"},
		{"mtu", "", "link set eth1 mtu 1400", "link: link eth1 mtu 1400\n"},
		{"master", "link add br0 type bridge", "link set eth1 master br0\nlink set eth1 nomaster", "link: link eth1 master br0\nlink: link eth1 nomaster\n"},
		{"group", "", "link set eth1 group 76\nlink set eth1 group 0", "link: link eth1 group 0\nlink: link eth1 group 76\n"},
		{"nothing that counts", "", "link set eth1 promisc on\nlink set eth1 alias uplink\nlink set eth1 mtu 1500\nneigh add 10.0.1.1 dev eth1 lladdr 02:00:00:00:00:01", ""},
		{"IPv4 address", "", "addr add 10.7.0.1/24 dev eth1\naddr del 10.7.0.1/24 dev eth1",
			"address: address deleted: 10.7.0.1/24 dev eth1\naddress: address set: 10.7.0.1/24 dev eth1\n" +
				"route: route added: 10.7.0.0/24 dev eth1 proto kernel scope link src 10.7.0.1\nroute: route deleted: 10.7.0.0/24 dev eth1 proto kernel scope link src 10.7.0.1\n"},
		{"peer address", "", "addr add 10.9.0.1 peer 10.9.0.2 dev eth1",
			"address: address set: 10.9.0.1 peer 10.9.0.2/32 dev eth1\nroute: route added: 10.9.0.2 dev eth1 proto kernel scope link src 10.9.0.1\n"},
		{"IPv6 address", "", "addr add 2001:db8:7::1/64 dev eth1 nodad\naddr del 2001:db8:7::1/64 dev eth1",
			"address: address deleted: 2001:db8:7::1/64 dev eth1\naddress: address set: 2001:db8:7::1/64 dev eth1\n" +
				"route: IPv6 route added: 2001:db8:7::/64 dev eth1 proto kernel metric 256\nroute: IPv6 route deleted: 2001:db8:7::/64 dev eth1 proto kernel metric 256\n"},
		{"the primary address takes routes along and tells of its own alone", "route add default via 10.0.1.1 table 1000", "addr del 10.0.1.10/24 dev eth1",
			"address: address deleted: 10.0.1.10/24 dev eth1\nroute: route deleted: 10.0.1.0/24 dev eth1 proto kernel scope link src 10.0.1.10\n"},
		{"IPv4 route", "", "route add 192.0.2.0/24 via 10.0.0.1\nroute replace 192.0.2.0/24 via 10.0.0.2\nroute del 192.0.2.0/24",
			"route: route added: 192.0.2.0/24 via 10.0.0.1 dev eth0\nroute: route deleted: 192.0.2.0/24 via 10.0.0.2 dev eth0\nroute: route replaced: 192.0.2.0/24 via 10.0.0.2 dev eth0\n"},
		{"IPv6 route", "", "-6 route add default via 2001:db8::1\n-6 route replace default via 2001:db8::2\n-6 route del default",
			"route: IPv6 route added: default via 2001:db8::1 dev eth0\nroute: IPv6 route deleted: default via 2001:db8::2 dev eth0\nroute: IPv6 route replaced: default via 2001:db8::2 dev eth0\n"},
		{"reject route in a table", "", "route add unreachable 192.0.2.0/24 metric 5 table 1000", "route: route added: unreachable 192.0.2.0/24 table 1000 metric 5\n"},
		{"IPv4 rule", "", "rule add pref 5102 from 10.0.1.0/24 iif lo lookup 20337 protocol 76\nrule del pref 5102",
			"rule: rule added: 5102: from 10.0.1.0/24 iif lo lookup 20337 proto 76\nrule: rule deleted: 5102: from 10.0.1.0/24 iif lo lookup 20337 proto 76\n"},
		{"IPv6 rule", "", "-6 rule add pref 200 lookup 7\n-6 rule del pref 200",
			"rule: IPv6 rule added: 200: from all lookup 7\nrule: IPv6 rule deleted: 200: from all lookup 7\n"},
		{"catch-all of a VPN", "", "rule add not fwmark 0xca6c table 51820", "rule: rule added: 32765: not from all fwmark 0xca6c lookup 51820\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ns, k := open(t, uplinks)
			ns.Batch(tt.before)
			c := watch(t, k)
			until(t, ns, c)
			events := changes(t, ns, c, tt.batch)
			for len(events) < strings.Count(tt.want, "\n") {
				events = append(events, next(t, c))
			}
			if diff := cmp.Diff(tt.want, texts(events)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// An event says what it is about, so that the reader can tell whether it
// counts.
func TestEventsOfSubjects(t *testing.T) {
	ns, k := open(t, uplinks)
	ns.Batch("link add br0 type bridge\n")
	c := watch(t, k)
	until(t, ns, c)
	for _, tt := range []struct{ line, want string }{
		{"link add v0 type veth peer name v1", "link [v0] came\nlink [v1] came\n"},
		{"link set v0 up", "link [v0 v0] came\n"},
		{"link set v0 master br0", "link [v0 br0 v0]\n"},
		{"link set v0 nomaster", "link [v0 v0 br0]\n"},
		{"link set v0 down", "link [v0 v0] went\n"},
		{"link set v0 name v7", "link [v7 v0] went\n"},
		{"link del v7", "link [v1] went\nlink [v7] went\n"},
		{"addr add 192.0.2.1/32 dev eth1", "address [eth1] 192.0.2.1/32\n"},
		{"route add 192.0.2.0/24 via 10.0.0.1 table 9", "route 192.0.2.0/24 via 10.0.0.1 dev eth0 table 9 came\n"},
		{"route del 192.0.2.0/24 table 9", "route 192.0.2.0/24 via 10.0.0.1 dev eth0 table 9\n"},
		{"route add local 198.51.100.9 dev eth1", "route local 198.51.100.9 dev eth1 scope host came\n"},
	} {
		var got []string
		for _, e := range changes(t, ns, c, tt.line) {
			switch {
			case e.Kind == "link" && !strings.Contains(e.Text, "carrier"):
				got = append(got, fmt.Sprintf("link %v%s\n", e.Links, comings(e)))
			case e.Kind == "address" && !e.Prefix.Addr().IsLinkLocalUnicast():
				got = append(got, fmt.Sprintf("address %v %v\n", e.Links, e.Prefix))
			case e.Changed != nil:
				got = append(got,
					fmt.Sprintf("route %v%s\n", e.Changed, comings(e)))
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(tt.want, strings.Join(got, "")); diff != "" {
			t.Errorf("%s: -want +got\n%s", tt.line, diff)
		}
	}
}

func comings(e Event) string {
	switch {
	case e.Came:
		return " came"
	case e.Went:
		return " went"
	}
	return ""
}

// Forwarding that begins or ends has an event for each link.
func TestEventsOfForwarding(t *testing.T) {
	ns, k := open(t, uplinks)
	c := watch(t, k)
	until(t, ns, c)
	ns.Sysctl("net.ipv4.ip_forward=0")
	until(t, ns, c)
	for _, tt := range []struct{ setting, want string }{
		{"net.ipv4.ip_forward=1", "forwarding: IPv4 forwarding of eth1 set to 1\n"},
		{"net.ipv4.conf.eth1.forwarding=0", "forwarding: IPv4 forwarding of eth1 set to 0\n"},
		{"net.ipv6.conf.all.forwarding=1", "forwarding: IPv6 forwarding of eth1 set to 1\n"},
		{"net.ipv4.conf.eth1.rp_filter=2", ""},
	} {
		ns.Sysctl(tt.setting)
		got := texts(until(t, ns, c))
		if !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%s: got\n%s", tt.setting, got)
		}
	}
}

// Rules of lasthop.
const (
	ownRule  = "5102: from 10.0.1.0/24 iif lo lookup 20337 proto 76"
	ownRule6 = "5102: from 2001:db8:1::/64 iif lo lookup 20337 proto 76"
)

// plan are the writes of a small plan.
func plan(t *testing.T) []routing.Op {
	return []routing.Op{
		{Route: route(t, "10.0.1.0/24 dev eth1 table 20337 proto 76 scope link")},
		{Route: route(t, "default via 10.0.1.1 dev eth1 table 20337 proto 76 onlink")},
		{Route: route(t, "::/0 via 2001:db8:1::1 dev eth1 table 20337 proto 76 onlink")},
		{Route: route(t, "unreachable ::/0 table 20337 proto 76 metric 4294967295")},
		{Group: &routing.LinkGroup{Link: "eth1", Group: 76}},
		{Rule: rule(t, ownRule)},
		{Rule: rule(t, ownRule6)},
	}
}

// undo are the deletes of ops, last first.
func undo(ops []routing.Op) (out []routing.Op) {
	for _, op := range ops {
		op.Delete = true
		if op.Group != nil {
			op.Group = &routing.LinkGroup{Link: op.Group.Link}
		}
		out = append([]routing.Op{op}, out...)
	}
	return out
}

// The Kernel's own writes have no event, also if a write has no effect, and
// after its sockets were opened again.
func TestEventsOfOwnWrites(t *testing.T) {
	ns, k := open(t, uplinks)
	c := watch(t, k)
	until(t, ns, c)
	for range 2 {
		ops := plan(t)
		do(t, k, ops...)
		do(t, k, ops...)
		do(t, k, undo(ops)...)
		do(t, k, undo(ops)...)
		if got := texts(until(t, ns, c)); got != "" {
			t.Errorf("own writes are told:\n%s", got)
		}
		if err := k.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	foreign := route(t, "default via 10.0.1.1 dev eth1 table 1000 proto 18")
	do(t, k, routing.Op{Route: foreign})
	if diff := cmp.Diff("route: route added: default via 10.0.1.1 dev "+
		"eth1 table 1000 proto 18\n", texts(until(t, ns, c))); diff != "" {
		t.Errorf("own write of what lasthop does not own: -want +got\n%s", diff)
	}
}

// If another program deletes an object of lasthop, the event contains it, so
// that it can go back immediately.
func TestEventsOfForeignDeletes(t *testing.T) {
	ns, k := open(t, uplinks)
	c := watch(t, k)
	ops := plan(t)
	do(t, k, ops...)
	until(t, ns, c)
	ns.Batch("rule del pref 5102\nroute flush table 20337\nlink set eth1 group 0\n" +
		"rule add pref 5103 lookup 20337\nrule del pref 5103\n")
	ns.IP("-6 rule del pref 5102")
	ns.IP("-6 route flush table 20337")
	// which flush passes over
	ns.IP("-6 route del unreachable default table 20337 metric 4294967295")
	var got routing.State
	groups := 0
	for _, e := range until(t, ns, c) {
		switch {
		case e.Rule != nil:
			got.Rules = append(got.Rules, *e.Rule)
		case e.Route != nil:
			got.Routes = append(got.Routes, *e.Route)
		case e.Text == "link eth1 group 0":
			groups++
		case !strings.Contains(e.Text, "5103"):
			t.Errorf("%s: no object", e.Text)
		}
	}
	var want routing.State
	for _, op := range ops {
		if op.Rule != nil {
			want.Rules = append(want.Rules, *op.Rule)
		}
		if op.Route != nil {
			want.Routes = append(want.Routes, *op.Route)
		}
	}
	if diff := cmp.Diff(want.String(), got.String()); diff != "" || groups != 1 {
		t.Errorf("%d events of the group, want 1; -want +got\n%s", groups, diff)
	}
}

// If the kernel has no room for the events, there is one "lost", and later
// events come as before.
func TestEventsOverrun(t *testing.T) {
	ns, k := open(t, uplinks)
	k.buffer = 1 // the kernel makes it its least, some 2 kB
	c := watch(t, k)
	var churn strings.Builder
	for i := range 500 {
		fmt.Fprintf(&churn, "route add 172.16.%d.%d via 10.0.0.1\nroute del 172.16.%d.%d\n",
			i/256, i%256, i/256, i%256)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		ns.Batch(churn.String())
		if slices.ContainsFunc(drain(c), func(e Event) bool {
			return e.Kind == "lost" && strings.Contains(e.Text, "queue was full")
		}) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was lost")
		}
	}
	// The links are still known: a change is reported as one, and no link
	// as new.
	ns.IP("link set eth1 mtu 1400")
	for e := next(t, c); e.Text != "link eth1 mtu 1400"; e = next(t, c) {
		if e.Kind == "link" {
			t.Errorf("got %q", e.Text)
		}
	}
}

// drain returns what waits, and what comes within a moment.
func drain(c <-chan Event) (events []Event) {
	for {
		select {
		case e := <-c:
			events = append(events, e)
		case <-time.After(50 * time.Millisecond):
			return events
		}
	}
}

// A reader that does not read gets one "lost" for what it could not hold, then
// goes on.
func TestEventsSlowReader(t *testing.T) {
	s := &subscription{out: make(chan Event, 3)}
	for i := range 5 {
		s.put(Event{Kind: "link", Text: fmt.Sprint(i)})
	}
	want := "link: 4\nlost: events lost: more than 3 waited\n"
	if diff := cmp.Diff(want, texts(drain(s.out))); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// A socket that breaks is opened again in the same namespace, also after the
// Kernel is closed, and there is one "lost".
func TestEventsOfBrokenSocket(t *testing.T) {
	ns, k := open(t, uplinks)
	s, err := k.subscription(routing.DefaultNumbers)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	broken := s.socket
	go s.run(ctx)
	k.Close()
	broken.Close()
	if e := next(t, s.out); e.Kind != "lost" ||
		!strings.Contains(e.Text, "opened the socket again") {
		t.Errorf("got %+v, want lost", e)
	}
	ns.IP("link set eth1 mtu 1400")
	// one that comes before the links are known again says less
	if e := next(t, s.out); e.Text != "link eth1 mtu 1400" && e.Text != "link eth1 added" {
		t.Errorf("got %q", e.Text)
	}
}

// The end of the context closes the channel, the socket and the namespace: at
// work, in a storm without a reader, and before it begins.
func TestEventsEnd(t *testing.T) {
	ns, k := open(t, uplinks)
	before := openFiles(t)
	for name, storm := range map[string]string{"idle": "",
		"storm": strings.Repeat("route add 192.0.2.1 via 10.0.0.1\nroute del 192.0.2.1\n",
			eventQueue)} {
		ctx, cancel := context.WithCancel(context.Background())
		c, err := k.Subscribe(ctx, routing.DefaultNumbers)
		if err != nil {
			t.Fatal(err)
		}
		if got := openFiles(t); got != before+3 {
			t.Errorf("%s: %d files are open, want %d: two sockets and namespace", name,
				got, before+3)
		}
		ns.Batch(storm)
		cancel()
		ended(t, c)
		wantFiles(t, before)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c, err := k.Subscribe(ctx, routing.DefaultNumbers)
	if err != nil {
		t.Fatal(err)
	}
	ended(t, c)
	wantFiles(t, before)
}

// ended waits for the channel to be closed.
func ended(t *testing.T, c <-chan Event) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	for {
		select {
		case _, ok := <-c:
			if !ok {
				return
			}
		case <-deadline:
			t.Fatal("the channel is not closed")
		}
	}
}

// wantFiles waits until as many files are open as before.
func wantFiles(t *testing.T, before int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); openFiles(t) != before; time.Sleep(
		time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d files are open, want %d as before", openFiles(t), before)
		}
	}
}

// openFiles counts the open files of the process.
func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
