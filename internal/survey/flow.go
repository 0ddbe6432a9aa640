package survey

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"time"

	"lasthop/internal/hint"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/flow/lasthop"
	"lasthop/routing/host"

	"golang.org/x/sys/unix"
)

// Flow is what the user asks flow about.
type Flow struct {
	Client netip.Addr
	Port   uint16         // 0 for any
	Local  netip.AddrPort // zero for any
}

// ParseFlow reads CLIENT[:PORT] and, unless local is "", ADDR:PORT.
func ParseFlow(client, local string) (Flow, error) {
	t, err := ParseTarget(client, "")
	if err != nil {
		return Flow{}, hint.New(err, "write the client as 198.51.100.2, "+
			"198.51.100.2:40000 or [2001:db8::2]:40000")
	}
	f := Flow{Client: t.Addr, Port: t.Port}
	if local == "" {
		return f, nil
	}
	l, err := netip.ParseAddrPort(local)
	if err != nil || l.Port() == 0 {
		return f, hint.New(fmt.Errorf("--local: %q is not an address with a port", local),
			"write it as 10.0.1.100:443 or [2001:db8::1]:443")
	}
	f.Local = netip.AddrPortFrom(l.Addr().Unmap(), l.Port())
	if a, b := routing.FamilyOf(f.Client), routing.FamilyOf(f.Local.Addr()); a != b {
		return f, hint.New(fmt.Errorf("--local: %s is an %s address, and the client an "+
			"%s one", f.Local.Addr(), b, a), "name both in one family")
	}
	return f, nil
}

// mostFlows is how many connections of a client are listed.
const mostFlows = 1000

// OpenHops opens the maps of the mode last-hop. The caller must call done.
func OpenHops(c *lasthop.Control) (m *lasthop.Maps, done func(), err error) {
	m, done, err = c.Maps()
	switch {
	case errors.Is(err, fs.ErrPermission), err != nil && os.Geteuid() != 0: // folders hide pins
		err = hint.New(fmt.Errorf("read the maps of the mode last-hop: %w", err),
			"run as root")
	case errors.Is(err, fs.ErrNotExist):
		err = hint.New(errors.New("this network namespace has no pinned maps of the "+
			"mode last-hop"), "see whether the mode is in use: lasthop status. Maps "+
			"are pinned if a bpffs is mounted: mount -t bpf bpf "+lasthop.BPFFS)
	}
	return m, done, err
}

// HopsNow reads the hops, and what the host knows of them.
func HopsNow(k *host.Kernel, m *lasthop.Maps) (h Hops, err error) {
	h.Time = time.Now()
	if h.Noted, err = m.Hops(); err != nil {
		return h, err
	}
	if h.Dead, err = m.Dead(); err != nil {
		return h, err
	}
	h.Neighs, h.Links, err = k.Neighs()
	return h, err
}

// Flows looks up the connections of a client, and asks the kernel which route
// their replies would take. It reads all maps: 0.3 s for a million flows.
func Flows(k *host.Kernel, c *lasthop.Control, t Flow) (report.Flows, error) {
	r := report.Flows{Client: t.Client, Port: t.Port, Local: t.Local}
	m, done, err := OpenHops(c)
	if err != nil {
		return r, err
	}
	defer done()
	h, err := HopsNow(k, m)
	if err != nil {
		return r, err
	}
	name, _ := os.Hostname()
	r.Head = report.Head{Lasthop: report.BuildVersion().Lasthop, Host: name,
		Kernel: lasthop.Running().Release, Time: h.Time}
	known := connections{}
	err = m.Each(func(f lasthop.Flow) bool {
		switch {
		case !t.matches(f) || known.repeats(f):
		case len(r.Flows) == mostFlows:
			r.More++
		default:
			r.Flows = append(r.Flows, h.flow(f, known))
		}
		return true
	})
	if err != nil {
		return r, err
	}
	if len(r.Flows) == 0 && t.Local.IsValid() {
		r.Flows = []report.Flow{{Remote: netip.AddrPortFrom(t.Client, t.Port),
			Local: t.Local}}
	}
	slices.SortStableFunc(r.Flows, func(a, b report.Flow) int {
		return a.Local.Compare(b.Local)
	})
	return r, askRoutes(k, r.Flows)
}

// matches reports whether the user asks for an entry.
func (t Flow) matches(f lasthop.Flow) bool {
	local := t.Local
	if f.Transport == routing.ICMP {
		local = netip.AddrPortFrom(local.Addr(), 0)
	}
	return f.Remote.Addr() == t.Client && (t.Port == 0 || t.Port == f.Remote.Port()) &&
		(!t.Local.IsValid() || local == f.Local)
}

// connections are those that were read, by their two ends, with their hops. The
// maps are read in the order of kinds.
type connections map[[2]netip.AddrPort]lasthop.Hop

// repeats reports whether the entry is the handshake of a known connection,
// with the same hop.
func (c connections) repeats(f lasthop.Flow) bool {
	hop, known := c[[2]netip.AddrPort{f.Remote, f.Local}]
	return f.Kind == lasthop.Handshakes && known && hop == f.Hop
}

// flow names an entry.
func (h *Hops) flow(f lasthop.Flow, known connections) report.Flow {
	out := report.Flow{Transport: f.Transport, Remote: f.Remote, Local: f.Local,
		Hop: h.Of(f.Hop)}
	for _, k := range kinds {
		if k.kind == f.Kind {
			out.Map = k.name
		}
	}
	both := [2]netip.AddrPort{f.Remote, f.Local}
	switch f.Kind {
	case lasthop.Connections:
		known[both] = f.Hop
	case lasthop.Handshakes:
		_, out.Opening = known[both]
	}
	return out
}

// askRoutes asks the kernel for the route of each flow's replies.
func askRoutes(k *host.Kernel, flows []report.Flow) error {
	numbers := map[routing.Transport]uint8{routing.TCP: unix.IPPROTO_TCP,
		routing.UDP: unix.IPPROTO_UDP}
	var qs []routing.Query
	for _, f := range flows {
		q := routing.Query{Src: f.Local.Addr(), Dst: f.Remote.Addr()}
		if q.Proto = numbers[f.Transport]; q.Proto != 0 {
			q.Sport, q.Dport = f.Local.Port(), f.Remote.Port()
		}
		qs = append(qs, q)
	}
	ways, err := k.Ask(qs)
	for i := range ways {
		flows[i].Way = ways[i]
	}
	return err
}

// AddFlows counts the connections of each hop that a daemon reported.
func AddFlows(k *host.Kernel, c *lasthop.Control, l *report.LastHop) error {
	m, done, err := OpenHops(c)
	if err != nil {
		return err
	}
	defer done()
	h, err := HopsNow(k, m)
	if err != nil {
		return err
	}
	return h.CountFlows(m, l)
}
