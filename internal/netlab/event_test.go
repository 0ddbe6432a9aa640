package netlab

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
)

// Event is something that happens while lasthop guards the host.
type Event struct {
	Name  string
	Steps []Step
	// touches reports whether a request may be lost while it happens,
	// whatever lasthop does: its address is away, or its router.
	touches func(Request) bool
	// done records what has changed for requests, once it has happened.
	done func()
	// around does something to lasthop itself, and calls steps in between;
	// nil for an event of the host alone
	around func(g *guard, steps func() error) error
}

// Step is what happens in the kernel of one station.
type Step struct {
	Station string
	Options string // of ip: "-6", "-force"
	Sysctls []string
	Lines   []string // of ip
	Adverts []Advert
	Leases  map[string]string // new text by link
}

// String returns the event as commands.
func (e Event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", e.Name)
	for _, s := range e.Steps {
		for _, line := range s.Sysctls {
			fmt.Fprintf(&b, "    %s: sysctl -w %s\n", s.Station, line)
		}
		for _, line := range s.Lines {
			fmt.Fprintf(&b, "    %s: ip %s %s\n", s.Station, s.Options, line)
		}
		for _, a := range s.Adverts {
			fmt.Fprintf(&b, "    %s: advertise %+v\n", s.Station, a)
		}
		for _, link := range sorted(s.Leases) {
			fmt.Fprintf(&b, "    %s: lease of %s: %q\n", s.Station, link,
				s.Leases[link])
		}
	}
	return b.String()
}

// and joins two events.
func (e Event) and(f Event) Event {
	return Event{Name: e.Name + ", with it " + f.Name, Steps: slices.Concat(e.Steps, f.Steps),
		touches: func(q Request) bool { return e.touches(q) || f.touches(q) },
		done:    func() { e.done(); f.done() }}
}

// course is what happens to a network, one event after the other. The state in
// between is in the network itself, and here.
type course struct {
	*drawer
	number int
	absent map[*Listener]bool
	gone   map[netip.Addr]bool // clients that do not ask any more
	gws    map[*Subnet]int     // the number of the router's address, if it is another one
	macs   int                 // routers that were replaced
	away   map[*Subnet]bool    // their second router has withdrawn
	undo   map[string][]Step   // the steps that take an event back: a rule, a VPN
	inside bool                // a container has started
	only   kind                // the only kind of event, in a test of the oracle
	chaos  bool                // events hit lasthop itself, too
}

// kind draws an event, or none if the network has no place for it.
type kind func(*course, *rand.Rand) (Event, bool)

func newCourse(n *Network) *course {
	c := &course{drawer: &drawer{Network: n}, absent: map[*Listener]bool{},
		gone: map[netip.Addr]bool{}, gws: map[*Subnet]int{},
		away: map[*Subnet]bool{}, undo: map[string][]Step{}}
	for _, l := range n.Listeners {
		c.absent[l] = l.Place == placeStandby
	}
	return c
}

// next draws the next event, sometimes two together. The network and the events
// so far decide, not the answers: a seed is a course.
func (c *course) next() Event {
	c.number++
	r := c.rand(fmt.Sprint("event ", c.number))
	e := c.one(r)
	if r.IntN(4) == 0 {
		first := e.done
		first() // the second is drawn in the network that the first leaves
		e.done = func() {}
		e = e.and(c.one(r))
	}
	if c.chaos && r.IntN(4) > 0 {
		e = e.amid(abuses[r.IntN(len(abuses))], r)
	}
	return e
}

// kinds are all kinds of events.
func (c *course) kinds() []choice[kind] {
	if c.only != nil {
		return []choice[kind]{{1, c.only}}
	}
	return []choice[kind]{{22, (*course).failover}, {10, (*course).successor},
		{12, (*course).renewal}, {10, (*course).newGateway}, {12, (*course).advertisement},
		{12, (*course).rule}, {10, (*course).vpn}, {18, (*course).reload},
		{5, (*course).cleanup}, {8, (*course).container}}
}

// one draws one event.
func (c *course) one(r *rand.Rand) Event {
	kinds := c.kinds()
	sum := 0
	for _, k := range kinds {
		sum += k.weight
	}
	for { // a rule that comes or goes is always possible
		n := r.IntN(sum)
		for _, k := range kinds {
			if n -= k.weight; n < 0 {
				if e, ok := k.value(c, r); ok {
					return e
				}
				break
			}
		}
	}
}

// pick takes one of a list.
func pick[T any](r *rand.Rand, list []T) (one T, ok bool) {
	if len(list) == 0 {
		return one, false
	}
	return list[r.IntN(len(list))], true
}

func nothing()                {}
func noRequest(Request) bool  { return false }
func anyRequest(Request) bool { return true }

// about reports whether a request or its reply uses a link of the host; or
// comes from a LAN whose routers are unknown here; or main knows the client
// behind the link: when it comes up, main answers such clients there until
// lasthop has put it into its group.
func (c *course) about(link string) func(Request) bool {
	return func(q Request) bool {
		return q.Listener == nil || q.Listener.Link == link || q.Way.Link == link ||
			q.Class == otherLAN || q.Class == overlay ||
			q.Listener.Place == placeTunnel ||
			q.Class == static && c.behindLink(q.Client, link)
	}
}

// behindLink reports whether the host has a route to a client by a link.
func (c *course) behindLink(client *Client, link string) bool {
	r := c.routerOf(client.Addr)
	return r != nil && c.Segments[r.Legs[0].Segment].Link == link
}

// lines returns the host's lines of both families, as its managers write them
// now, including those of a VIP that has come.
func (c *course) lines() map[string][]string {
	out := map[string][]string{"-4": slices.Clone(c.Host.Lines),
		"-6": slices.Clone(c.Host.Lines6)}
	for _, line := range c.Host.Later {
		f := "-4"
		if strings.Contains(line, "::") {
			f = "-6"
		}
		out[f] = append(out[f], line)
	}
	return out
}

// present reports whether a request can be asked now.
func (c *course) present(q Request) bool {
	return q.Listener == nil || !c.absent[q.Listener] && !c.gone[q.Client.Addr]
}

// hostStep returns a step on the host.
func hostStep(options string, lines ...string) Step {
	return Step{Station: host, Options: options, Lines: lines}
}

// family returns the option of ip for an address.
func family(a netip.Addr) string {
	if a.Is4() {
		return "-4"
	}
	return "-6"
}

// removal returns the line that undoes another one. It names no protocol: in a
// batch, ip may have used `static` as the number in the line before.
func removal(line string) string {
	line = strings.Replace(line, " add ", " del ", 1)
	for _, flag := range []string{" nodad", " noprefixroute", " proto static", " proto 66"} {
		line = strings.ReplaceAll(line, flag, "")
	}
	return line
}

// removals returns those of several lines, the last line's first.
func removals(lines []string) (out []string) {
	for _, line := range slices.Backward(lines) {
		out = append(out, removal(line))
	}
	return out
}
