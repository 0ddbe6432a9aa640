package netlab

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
)

// adverts returns the advertisements of a segment's live routers.
func (c *course) adverts(segment int) (steps []Step) {
	for _, s := range c.Stations {
		for _, a := range s.Adverts {
			if a.Link == legLink(segment) && !a.Silent {
				steps = append(steps, Step{Station: s.Name, Adverts: []Advert{a}})
			}
		}
	}
	return steps
}

// advertisement returns the event that a router announces itself again; or that
// the second router of a subnet, less preferred, withdraws and comes back; or
// that a router announces itself for the first time.
func (c *course) advertisement(r *rand.Rand) (e Event, ok bool) {
	var list []*Subnet
	for _, s := range c.subnets() {
		if !s.is4() && !s.Bare && (s.Style == styleRA || s.Style == styleMain) {
			list = append(list, s)
		}
	}
	s, ok := pick(r, list)
	if !ok {
		return e, false
	}
	link := c.Segments[s.Segment].Link
	e = Event{Name: "routers announce themselves by " + link, touches: noRequest, done: nothing}
	if s.Style == styleMain {
		a := Advert{Link: legLink(s.Segment), From: linkLocal(s.Router)}
		e.Steps = []Step{
			{Station: host,
				Sysctls: []string{"net.ipv6.conf." + link + ".accept_ra=2"}},
			{Station: c.Routers[s.Router].Name, Adverts: []Advert{a}}}
		return e, true
	}
	e.Steps = c.adverts(s.Segment)
	for i, step := range e.Steps {
		if a := step.Adverts[0]; a.Preference == preferenceLow && r.IntN(2) == 0 {
			c.away[s] = !c.away[s]
			a.Gone = c.away[s]
			e.Steps = []Step{{Station: step.Station, Adverts: []Advert{a}}}
			e.Name = fmt.Sprintf("router %d by %s withdraws: %t", i, link, a.Gone)
			break
		}
	}
	return e, true
}

// deliberate are rules of an administrator that match none of the requests.
var deliberate = []string{"to %s", "from %s", "fwmark 0x700/0xff00", "ipproto tcp dport 8443",
	"ipproto tcp sport 8443", "uidrange 4000-4010", "tos 0x10"}

// unused are addresses that no station has.
var unused = map[string]string{"-4": "203.0.113.77", "-6": "2001:db8:dd::7"}

// rule returns the event that an administrator adds or removes a rule.
func (c *course) rule(r *rand.Rand) (e Event, ok bool) {
	if steps, ok := c.undo["rule"]; ok && r.IntN(3) > 0 {
		delete(c.undo, "rule")
		return Event{Name: "a rule goes", Steps: steps, touches: noRequest,
			done: nothing}, true
	} else if ok {
		return e, false
	}
	option, action := "-4", "lookup 9100"
	if r.IntN(3) == 0 {
		option = "-6"
	}
	selector := deliberate[r.IntN(len(deliberate))]
	if strings.Contains(selector, "%s") {
		selector = fmt.Sprintf(selector, unused[option])
	}
	if r.IntN(4) == 0 {
		action = "blackhole"
	}
	place := []string{"", " pref 60", " pref 6000", " pref 32000"}[r.IntN(4)]
	line := fmt.Sprintf("rule add%s %s %s", place, selector, action)
	e = Event{Name: "a rule comes: " + line, touches: noRequest, done: nothing}
	e.Steps = []Step{hostStep(option,
		"route replace unreachable default metric 9 table 9100", line)}
	c.undo["rule"] = []Step{hostStep(option, removal(line))}
	return e, true
}

// vpn returns the event that a VPN for everything comes or goes.
func (c *course) vpn(r *rand.Rand) (e Event, ok bool) {
	if c.Ingredients["vpn"] {
		return e, false
	}
	if steps, ok := c.undo["vpn"]; ok {
		delete(c.undo, "vpn")
		return Event{Name: "the VPN goes", Steps: steps, touches: anyRequest,
			done: nothing}, true
	}
	programs := []string{"wg-quick", "tailscale", "netbird"}
	return c.vpnBy(programs[r.IntN(len(programs))]), true
}

// vpnBy returns the event that the VPN of one program comes.
func (c *course) vpnBy(program string) (e Event) {
	d := &drawer{Network: &Network{}}
	d.vpnOf(program)
	e = Event{Name: "a VPN comes: " + program, touches: anyRequest, done: nothing}
	e.Steps = []Step{hostStep("-4", d.Host.Lines...), hostStep("-6", d.Host.Lines6...)}
	rules := func(lines []string) []string {
		return slices.DeleteFunc(removals(lines),
			func(s string) bool { return !strings.HasPrefix(s, "rule ") })
	}
	c.undo["vpn"] = []Step{hostStep("-4", rules(d.Host.Lines)...),
		hostStep("-6", rules(d.Host.Lines6)...), hostStep("-4", "link del tun0")}
	return e
}

var tableOf = regexp.MustCompile(` (?:table|lookup) (\d+)`)

// written returns the lines of one family that a link's manager writes:
// addresses, routes and the rules that lead to their tables.
func (c *course) written(option, link string) (out []string) {
	tables := map[string]bool{}
	absent := func(line string) bool {
		return slices.ContainsFunc(c.Listeners, func(l *Listener) bool {
			return c.absent[l] &&
				strings.HasPrefix(line, "addr add "+l.Addr.String()+"/")
		})
	}
	for _, line := range c.lines()[option] {
		m := tableOf.FindStringSubmatch(line)
		switch {
		case strings.HasPrefix(line, "rule add ") && m != nil && tables[m[1]]:
		case !strings.Contains(line+" ", " dev "+link+" "), absent(line),
			strings.HasPrefix(line, "link "):
			continue
		case m != nil:
			tables[m[1]] = true
		}
		out = append(out, line)
	}
	return out
}

// reload returns the event that a manager writes all of a link again.
func (c *course) reload(r *rand.Rand) (e Event, ok bool) {
	g, ok := pick(r, c.Segments)
	if !ok || g.Subnets[0].Bare {
		return e, false
	}
	link := g.Link
	four, six := c.written("-4", link), c.written("-6", link)
	rules := func(lines []string) []string { // and tables: a flush is only of main
		return slices.DeleteFunc(removals(lines),
			func(s string) bool { return !tableOf.MatchString(s) })
	}
	e = Event{touches: c.about(link), done: nothing}
	switch r.IntN(4) {
	case 0:
		e.Name = "the manager deletes what it wrote of " + link + ", and writes it"
		e.Steps = []Step{hostStep("-4 -force", removals(four)...),
			hostStep("-6 -force", removals(six)...)}
	case 1: // without a type, ip of iproute2 6.15 flushes bans, too, in a batch
		e.Name = "the manager flushes " + link + ", and writes it"
		e.Steps = []Step{hostStep("-4 -force", append(rules(four), "addr flush dev "+link,
			"route flush type unicast dev "+link)...), hostStep("-6 -force",
			append(rules(six), "addr flush dev "+link, "route flush type unicast dev "+link)...)}
	case 2:
		e.Name = link + " goes down and up, and the manager writes it"
		e.Steps = []Step{hostStep("-4 -force", append(rules(four), "link set "+link+" down",
			"addr flush dev "+link)...), hostStep("-6 -force", rules(six)...),
			hostStep("-4", "link set "+link+" up")}
	case 3:
		e.Name = "the manager writes the rules and routes of " + link + " again"
		isAddr := func(s string) bool { return strings.HasPrefix(s, "addr ") }
		four, six = slices.DeleteFunc(four, isAddr), slices.DeleteFunc(six, isAddr)
		e.Steps = []Step{hostStep("-4", removals(four)...), hostStep("-6", removals(six)...)}
	}
	e.Steps = append(e.Steps, hostStep("-4", four...), hostStep("-6", six...))
	for i, s := range c.Segments {
		if s == g && slices.ContainsFunc(g.Subnets,
			func(n *Subnet) bool { return n.Style == styleRA }) {
			e.Steps = append(e.Steps, c.adverts(i)...)
		}
	}
	return e, true
}

// cleanup returns the event that a manager deletes what it did not write:
// rules, and perhaps routes, as systemd-networkd does when it starts.
func (c *course) cleanup(r *rand.Rand) (e Event, ok bool) {
	e = Event{Name: "the manager deletes rules that are not its own", touches: anyRequest,
		done: nothing}
	for _, f := range []string{"-4", "-6"} {
		lines := []string{"rule flush protocol 76"}
		if r.IntN(2) == 0 {
			lines = append(lines, "route flush table all protocol 76")
			e.Name = "the manager deletes rules and routes that are not its own"
		}
		e.Steps = append(e.Steps, hostStep(f+" -force", lines...))
	}
	return e, true
}

// late is the station of a container that starts while lasthop runs.
const late = "late"

// container returns the event that Docker starts its first container: its
// bridge comes, and the host forwards from then on.
func (c *course) container(r *rand.Rand) (e Event, ok bool) {
	if c.inside || c.Ingredients["containers"] {
		return e, false
	}
	c.inside = true
	s := hostStep("-4", "link add docker0 type bridge mcast_snooping 0",
		"addr add 172.17.0.1/16 dev docker0", "link set docker0 up",
		"link add veth0 type veth peer name eth0 netns "+late,
		"link set veth0 master docker0 up")
	s.Sysctls = []string{"net.ipv4.ip_forward=1"}
	touches := noRequest
	if r.IntN(2) == 0 {
		s.Sysctls = append(s.Sysctls, "net.ipv6.conf.all.forwarding=1")
		// a host that forwards takes the first of several routers that
		// announce themselves, whether it answers or not
		touches = func(q Request) bool { return q.Class == own && q.Client.Addr.Is6() }
	}
	in := Step{Station: late, Lines: []string{"addr add 172.17.0.2/16 dev eth0",
		"link set eth0 up", "route add default via 172.17.0.1"}}
	return Event{Name: "the first container starts", Steps: []Step{s, in}, touches: touches,
		done: nothing}, true
}
