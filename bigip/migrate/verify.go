package migrate

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"lasthop/bigip"
	"lasthop/routing"
)

// The states of an address after the move.
const (
	Here        = "here"         // this host answers for it, and no other machine
	Duplicate   = "duplicate"    // another machine answers for it
	Proxied     = "proxied"      // another machine answers for it as a proxy
	NotAnswered = "not-answered" // this host has it and does not answer for it
	NotAsked    = "not-asked"    // no neighbour could be asked for it
	NotMoved    = "not-moved"    // it is ready, and not on this host
)

// Verification is the result for the addresses that should move.
type Verification struct {
	Addresses []Moved // in the order of the virtual servers
	Findings  []routing.Finding
}

// Moved is an address of virtual servers, after the move.
type Moved struct {
	Address   string    `json:"address"`
	Interface string    `json:"interface,omitempty"` // whose neighbours were asked
	Virtuals  []string  `json:"virtuals"`
	State     string    `json:"state"`
	Reason    string    `json:"reason,omitempty"` // of not-answered and not-asked
	Machines  []Machine `json:"others"`           // that answer for it
	// the ways that requests came by, and their senders; nothing if no
	// packets were observed
	Came []Came `json:"came"`

	addr netip.Addr
}

// Machine is one that answers for an address.
type Machine struct {
	MAC   routing.MAC `json:"mac"`
	Proxy bool        `json:"proxy"`
	Names []string    `json:"names"` // its other names: "router 10.0.1.1"
}

// String returns the MAC and the names.
func (m Machine) String() string {
	if len(m.Names) == 0 {
		return m.MAC.String()
	}
	return m.MAC.String() + " (" + strings.Join(m.Names, ", ") + ")"
}

// Came is a way by which connections came to an address.
type Came struct {
	Class       routing.SeenClass `json:"class"`
	Clients     int               `json:"clients"`
	Connections int               `json:"connections"`
	In          routing.Crossing  `json:"in"`
}

// moved lists the addresses of virtual servers that are on the host, and those
// that are ready to be. In files from after the move they are disabled.
func (r Result) moved(h routing.Host) (out []Moved) {
	at := map[netip.Addr]int{}
	for _, row := range r.Rows {
		addr, err := netip.ParseAddr(row.Address)
		off := row.Status == NotApplicable && row.Reason != "disabled"
		if err != nil || off || !row.Present && row.Status != Ready {
			continue
		}
		i, known := at[addr]
		if !known {
			i = len(out)
			at[addr] = i
			m := Moved{Address: row.Address, Interface: row.Interface, addr: addr,
				State: Here}
			if !row.Present {
				m.State = NotMoved
			}
			out = append(out, m)
		}
		out[i].Virtuals = appendNew(out[i].Virtuals, row.Virtual)
	}
	for _, o := range r.Plan.Outcomes {
		if i, known := at[o.Addr]; known && o.Link != "" {
			out[i].Interface = o.Link
		}
	}
	for _, a := range h.Addrs { // whose link nothing else tells
		if i, known := at[a.Prefix.Addr()]; known && out[i].Interface == "" {
			out[i].Interface = a.Link
		}
	}
	return out
}

// Questions returns what to ask neighbours: for the addresses that are on the
// host, and for the self IPs of the BIG-IP on the same links, whose answers
// reveal its MACs.
func Questions(c bigip.Config, r Result, h routing.Host) (out []routing.Question) {
	links := map[string]bool{}
	here := map[netip.Addr]bool{}
	for _, m := range r.moved(h) {
		if m.State == Here {
			links[m.Interface] = true
			out = append(out, routing.Question{Link: m.Interface, Addr: m.addr})
		}
	}
	for _, a := range h.Addrs {
		here[a.Prefix.Addr()] = true
	}
	for _, s := range c.Selfs {
		for _, a := range h.Addrs {
			if self := s.Prefix.Addr(); links[a.Link] && !here[self] &&
				a.Connected().Contains(self) {
				out = appendNew(out, routing.Question{Link: a.Link, Addr: self})
			}
		}
	}
	return out
}

// Verify returns the result for the addresses that should move, by the
// neighbours' answers. seen is what packets showed; nil if none were observed.
func Verify(c bigip.Config, r Result, h routing.Host, asked []routing.Asked,
	seen *routing.Seen) (v Verification) {
	said := map[routing.Question]routing.Asked{}
	for _, a := range asked {
		said[a.Question] = a
	}
	names := machineNames(c, h, asked)
	v.Addresses = r.moved(h)
	for i := range v.Addresses {
		m := &v.Addresses[i]
		if m.State != Here {
			continue
		}
		q := routing.Question{Link: m.Interface, Addr: m.addr}
		for _, x := range said[q].Answers {
			m.Machines = append(m.Machines, Machine{x.MAC, x.Proxy,
				names[machineAt{m.Interface, x.MAC}]})
		}
		m.judge(h, said[q].Unasked)
		m.come(seen)
	}
	v.Findings = slices.Concat(v.each(c), v.counted(seen != nil))
	routing.SortFindings(v.Findings)
	return v
}

// judge sets the state of an address that is on the host.
func (m *Moved) judge(h routing.Host, unasked string) {
	m.Reason = m.unanswered(h)
	proxies := 0
	for _, x := range m.Machines {
		if x.Proxy {
			proxies++
		}
	}
	switch {
	case len(m.Machines) > proxies:
		m.State, m.Reason = Duplicate, ""
	case m.Reason != "":
		m.State = NotAnswered
	case proxies > 0:
		m.State = Proxied
	case unasked != "":
		m.State, m.Reason = NotAsked, unasked
	}
}

// unanswered returns why the host does not answer for an address that it has;
// "" if it does.
func (m *Moved) unanswered(h routing.Host) string {
	for _, l := range h.Links {
		if l.Name == m.Interface && (!l.Up || !l.Carrier) {
			return m.Interface + " is down"
		}
	}
	link, there, elsewhere := false, false, ""
	for _, a := range h.Addrs {
		switch {
		case a.Prefix.Addr() != m.addr:
			link = link || a.Link == m.Interface && a.Connected().Contains(m.addr)
		case a.Tentative:
			return "it is tentative: the kernel looks for a duplicate, or has found one"
		case a.Link == m.Interface:
			there = true
		default:
			elsewhere = a.Link
		}
	}
	// IPv4 answers on each link for each address (arp_ignore 0).
	if m.addr.Is6() && link && !there && elsewhere != "" {
		return "it is on " + elsewhere + ", and the kernel answers for an IPv6 address " +
			"only on its own interface"
	}
	return ""
}

// come adds the senders of connections to the address.
func (m *Moved) come(seen *routing.Seen) {
	if seen == nil {
		return
	}
	for _, l := range seen.Listeners {
		if l.Addr != m.addr || l.Transport == routing.ICMP {
			continue
		}
		for _, w := range l.Ways {
			same := func(x Came) bool { return x.Class == w.Class && x.In == w.In }
			i := slices.IndexFunc(m.Came, same)
			if i < 0 {
				i = len(m.Came)
				m.Came = append(m.Came, Came{Class: w.Class, In: w.In})
			}
			m.Came[i].Clients += w.Clients
			m.Came[i].Connections += w.Count.Seen
		}
	}
}

// machineAt is a machine on a link.
type machineAt struct {
	link string
	mac  routing.MAC
}

// machineNames names machines: the BIG-IP by the self IPs that neighbours were
// asked for, routers and other machines by the neighbour table.
func machineNames(c bigip.Config, h routing.Host, asked []routing.Asked) map[machineAt][]string {
	names := map[machineAt][]string{}
	for _, s := range c.Selfs {
		for _, a := range asked {
			for _, x := range a.Answers {
				if at := (machineAt{a.Link, x.MAC}); a.Addr == s.Prefix.Addr() {
					names[at] = appendNew(names[at], "BIG-IP, self IP "+
						a.Addr.String()+" "+s.Name)
				}
			}
		}
	}
	gateways := map[netip.Addr]bool{}
	for _, route := range h.Routes {
		for _, hop := range route.Hops {
			gateways[hop.Via] = true
		}
	}
	for _, n := range h.Neighs {
		mac, kind := routing.MAC{}, "neighbour"
		if mac.UnmarshalText([]byte(n.MAC)) != nil || mac == (routing.MAC{}) ||
			n.State == "FAILED" {
			continue
		}
		if n.Router || gateways[n.Addr] {
			kind = "router"
		}
		at := machineAt{n.Link, mac}
		names[at] = appendNew(names[at], kind+" "+n.Addr.String())
	}
	return names
}

func (m *Moved) machines() (list []string) {
	for _, x := range m.Machines {
		list = append(list, x.String())
	}
	return list
}

// leave returns how to make the BIG-IP stop answering for the address, for
// which it has a virtual address of that name.
func (m *Moved) leave(name string) string {
	hint := "if it is the BIG-IP: tmsh modify ltm virtual-address " +
		routing.ShellWord(cmp.Or(name, "NAME")) + " arp disabled enabled no"
	if m.addr.Is4() {
		hint += ", and then here: arping -U -c 3 -I " + routing.ShellWord(m.Interface) +
			" " + m.Address
	}
	return hint
}

// each reports what is wrong with single addresses.
func (v Verification) each(c bigip.Config) (out []routing.Finding) {
	names := map[netip.Addr]string{}
	for _, a := range c.Addresses {
		names[a.Addrs.From()] = a.Name
	}
	for _, m := range v.Addresses {
		who := routing.Some(m.machines(), 4)
		switch m.State {
		case Duplicate:
			out = append(out, routing.Error.Finding("duplicate-address", m.Address,
				"another machine on %s also answers for it: %s; clients reach "+
					"the one that answers first", m.Interface, who).
				Advise("%s", m.leave(names[m.addr])))
		case Proxied:
			out = append(out, routing.Warning.Finding("proxy-answers", m.Address,
				"a machine on %s answers for it as a proxy (proxy ARP or "+
					"NDP): %s; clients on that link may reach that machine "+
					"instead", m.Interface, who).
				Advise("if it is a router: check its route for the address, and "+
					"its proxy ARP"))
		case NotAnswered:
			out = append(out, routing.Error.Finding("not-answered", m.Address,
				"this host has it and does not answer for it: %s", m.Reason).
				Advise("ip address show dev %s", routing.ShellWord(m.Interface)))
		}
	}
	return out
}

// counted reports what several addresses have in common.
func (v Verification) counted(looked bool) []routing.Finding {
	var missing, unasked, silent []string
	for _, m := range v.Addresses {
		switch {
		case m.State == NotMoved:
			missing = append(missing, m.Address)
			continue
		case m.State == NotAsked:
			unasked = append(unasked, m.Address+" ("+m.Reason+")")
		}
		if looked && len(m.Came) == 0 {
			silent = append(silent, m.Address)
		}
	}
	notMoved := about(missing, 6, routing.Finding{Code: "not-moved",
		Message: "ready, but not on this host: migrate asked no neighbour for them",
		Hint:    "go on with the steps of migrate"})
	if len(missing) == len(v.Addresses) {
		notMoved = []routing.Finding{routing.Warning.Finding("not-moved",
			cmp.Or(routing.Some(missing, 6), "no virtual server is ready"),
			"no address of a virtual server is on this host: migrate asked no "+
				"neighbour").
			Advise("go on with the steps of migrate, on the right host and with the " +
				"right files")}
	}
	return slices.Concat(notMoved, about(unasked, 4, routing.Finding{Code: "not-asked",
		Message: "migrate could not ask a neighbour for these addresses",
		Hint:    "check the routes for them on the routers"}),
		about(silent, 6, routing.Finding{Code: "no-requests",
			Message: "on this host, and migrate saw no connection to them in that time",
			Hint: "look longer, or connect to each from a client; routers may still " +
				"have the BIG-IP's MAC address"}))
}
