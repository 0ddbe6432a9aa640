package netlab

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
)

// failover returns the event that keepalived takes a VIP to this host or away
// from it.
func (c *course) failover(r *rand.Rand) (e Event, ok bool) {
	var list []*Listener
	for _, l := range c.Listeners {
		switch l.Place {
		case placeVIP, placeVIP32, placeVMAC, placeStandby:
			list = append(list, l)
		}
	}
	l, ok := pick(r, list)
	if !ok {
		return e, false
	}
	line := ""
	prefix := fmt.Sprintf("addr add %s/", l.Addr)
	for _, s := range slices.Concat(c.Host.Lines, c.Host.Lines6, c.Host.Later) {
		if strings.HasPrefix(s, prefix) {
			line = s
		}
	}
	e = Event{Name: "the VIP " + l.Addr.String() + " comes",
		touches: func(q Request) bool { return q.Listener == l || q.Listener == nil },
		done:    func() { c.absent[l] = !c.absent[l] }}
	if !c.absent[l] {
		line = removal(line)
		e.Name = "the VIP " + l.Addr.String() + " goes"
	}
	e.Steps = []Step{hostStep(family(l.Addr), line)}
	return e, true
}

// successor returns the event that a router fails, and another takes its
// addresses on one of its legs: they have another MAC from then on.
func (c *course) successor(r *rand.Rand) (e Event, ok bool) {
	var list []*Router
	for _, o := range c.Routers {
		if !o.Dead && len(o.Legs) > 0 && (o.Only == nil || o.Only.Prefix.IsValid()) {
			list = append(list, o)
		}
	}
	o, ok := pick(r, list)
	if !ok {
		return e, false
	}
	leg := o.Legs[r.IntN(len(o.Legs))].Segment
	c.macs++
	link := legLink(leg)
	s := Step{Station: o.Name, Sysctls: []string{"net.ipv4.conf." + link + ".arp_notify=1",
		"net.ipv6.conf." + link + ".ndisc_notify=1"},
		Lines: []string{"link set " + link + " address " +
			mac(fmt.Sprint(o.Name, link, c.macs))}}
	return Event{Name: "another router takes the addresses of " + o.Name + " on " +
		c.Segments[leg].Name, Steps: []Step{s}, touches: c.about(c.Segments[leg].Link),
		done: nothing}, true
}

// leased returns the subnets whose gateway a DHCP server may name.
func (c *course) leased() (list []*Subnet) {
	for _, s := range c.subnets() {
		if s.is4() && !s.pair() && !s.Bare && s.Style != styleNone &&
			s.Style != styleOnlink {
			list = append(list, s)
		}
	}
	return list
}

// gatewayOf returns the router's present address in a subnet.
func (c *course) gatewayOf(s *Subnet) netip.Addr {
	if n := c.gws[s]; n > 0 {
		return s.at(n)
	}
	return c.Routers[s.Router].address(s)
}

// byGateway returns the host's routes by a next hop.
func (c *course) byGateway(a netip.Addr) (out []string) {
	for _, line := range c.Host.Lines {
		if strings.HasPrefix(line, "route add ") &&
			strings.Contains(line+" ", " via "+a.String()+" ") {
			out = append(out, line)
		}
	}
	return out
}

// renewal returns the event that a DHCP lease is renewed with the same gateway:
// the client writes the address's lifetime and all routes again.
func (c *course) renewal(r *rand.Rand) (e Event, ok bool) {
	s, ok := pick(r, c.leased())
	if !ok {
		return e, false
	}
	link := c.Segments[s.Segment].Link
	e = Event{Name: "the lease of " + link + " is renewed", touches: noRequest, done: nothing}
	for _, line := range c.Host.Lines {
		if strings.HasPrefix(line, "addr add "+s.host().String()+" ") {
			e.Steps = append(e.Steps, hostStep("-4", strings.Replace(line, " add ",
				" change ", 1)+" valid_lft 3600 preferred_lft 3600"))
		}
	}
	routes := c.byGateway(c.gatewayOf(s))
	again := make([]string, len(routes))
	for i, line := range routes {
		again[i] = strings.Replace(line, " add ", " replace ", 1)
	}
	if r.IntN(2) == 0 { // as dhclient does: away, and back
		again = slices.Concat(removals(routes), routes)
		e.Name += ", its routes are deleted and added"
		e.touches = c.about(link)
	}
	e.Steps = append(e.Steps, hostStep("-4", again...))
	if text, ok := c.Host.Leases[link]; ok {
		e.Steps[0].Leases = map[string]string{link: text}
	}
	return e, true
}

// spare is the number of a router's second address in a subnet.
const spare = 5

// newGateway returns the event that a lease is renewed and names another
// gateway: the same router by another address. The router loses the first one.
func (c *course) newGateway(r *rand.Rand) (e Event, ok bool) {
	list := slices.DeleteFunc(c.leased(), func(s *Subnet) bool {
		_, leg := c.Routers[s.Router].leg(s.Segment)
		return !leg || s.Prefix.Bits() != 24
	})
	s, ok := pick(r, list)
	if !ok {
		return e, false
	}
	old, number := c.gatewayOf(s), spare
	if c.gws[s] == spare {
		number = numRouter
	}
	now, link := s.at(number), c.Segments[s.Segment].Link
	o := c.Routers[s.Router]
	leg := legLink(s.Segment)
	e = Event{Name: fmt.Sprintf("the lease of %s names the gateway %s, not %s", link, now, old),
		touches: c.about(link)}
	e.Steps = append(e.Steps, Step{Station: o.Name,
		Sysctls: []string{"net.ipv4.conf.all.promote_secondaries=1"},
		Lines:   []string{fmt.Sprintf("addr add %s/24 dev %s", now, leg)}})
	e.Steps = append(e.Steps, c.toNeighbours(s, old, now)...)
	// no host has learned of a router that took the address meanwhile
	e.Steps = append(e.Steps, hostStep("-4", fmt.Sprintf("neigh flush to %s dev %s", now,
		link)), c.rewrite(r, link, old, now))
	e.Steps = append(e.Steps, Step{Station: o.Name,
		Lines: []string{fmt.Sprintf("addr del %s/24 dev %s", old, leg)}})
	e.done = func() {
		c.gws[s], c.gone[old] = number, true
		for i, q := range c.Requests {
			if q.Way.Via == old {
				c.Requests[i].Way.Via = now
			}
		}
	}
	return e, true
}

// toNeighbours makes the hosts of a LAN use another address of their router.
func (c *course) toNeighbours(s *Subnet, old, now netip.Addr) (steps []Step) {
	for _, m := range c.Stations {
		var lines []string
		for i, line := range m.Lines {
			if strings.HasPrefix(line, "route add ") &&
				strings.HasSuffix(line, " via "+old.String()) {
				m.Lines[i] = strings.TrimSuffix(line, old.String()) + now.String()
				lines = append(lines, strings.Replace(m.Lines[i], " add ",
					" replace ", 1))
			}
		}
		if len(lines) > 0 && m.Name != world {
			lines = append(lines, "neigh flush to "+now.String()+" dev eth0")
			steps = append(steps, Step{Station: m.Name, Lines: lines})
		}
	}
	return steps
}

// rewrite makes the host's manager write another gateway: over the old one, or
// after deleting it.
func (c *course) rewrite(r *rand.Rand, link string, old, now netip.Addr) Step {
	step := hostStep("-4")
	if r.IntN(2) == 0 {
		step.Lines = removals(c.byGateway(old))
	}
	for i, line := range c.Host.Lines {
		if slices.Contains(c.byGateway(old), line) {
			line = strings.Replace(line+" ", " via "+old.String()+" ",
				" via "+now.String()+" ", 1)
			c.Host.Lines[i] = strings.TrimSpace(line)
			step.Lines = append(step.Lines, strings.Replace(c.Host.Lines[i], " add ",
				" replace ", 1))
		}
	}
	if text, ok := c.Host.Leases[link]; ok {
		text = strings.Replace(text, "ROUTER="+old.String()+"\n",
			"ROUTER="+now.String()+"\n", 1)
		c.Host.Leases[link] = text
		step.Leases = map[string]string{link: text}
		step.Lines = append(step.Lines, c.lifetime(link)...)
	}
	return step
}

// lifetime returns what a DHCP client always writes for a link's own address.
func (c *course) lifetime(link string) (lines []string) {
	for _, s := range c.subnets() {
		for _, line := range c.Host.Lines {
			if c.Segments[s.Segment].Link == link && s.is4() &&
				strings.HasPrefix(line, "addr add "+s.host().String()+" ") {
				lines = append(lines, strings.Replace(line, " add ", " change ", 1)+
					" valid_lft 3600 preferred_lft 3600")
			}
		}
	}
	return lines
}
