package migrate

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"lasthop/bigip"
	"lasthop/routing"
)

// cutover is the move of the addresses from the BIG-IP to this host.
type cutover struct {
	moves   []*move
	known   []bigip.VirtualAddress
	staying map[string]bool     // virtual servers, kind and name, of which a part is not ready
	names   map[domain][]string // of addresses; nil until it is needed
	noARP   map[string]bool     // virtual addresses, by name
	freed   []string            // what else answers for addresses: kind and name
	pair    pair
}

// domain is an address in a route domain.
type domain struct {
	addr netip.Addr
	id   int
}

// move is an address that leaves the BIG-IP for this host.
type move struct {
	addr     netip.Addr
	link     string
	present  bool
	blocked  bool     // something is missing, or must be read, for a virtual server on it
	exact    bool     // a listener names it, or will
	inSubnet bool     // of the link
	names    []string // of its virtual addresses on the BIG-IP
	unread   bool     // the files do not have these; destinations name them
	virtuals []string // for an address without: kind and name
}

func newCutover(c bigip.Config) *cutover {
	x := &cutover{known: c.Addresses, staying: map[string]bool{}, noARP: map[string]bool{},
		pair: newPair(c)}
	for _, a := range c.Addresses {
		if a.NoARP {
			x.noARP[a.Name] = true
		}
	}
	return x
}

// named returns the virtual addresses of an address. Most destinations name
// theirs, so the lookup is rare.
func (c *cutover) named(at domain) []string {
	if c.names == nil {
		c.names = map[domain][]string{}
		for _, a := range c.known {
			if a.Addrs.From() == a.Addrs.To() {
				at := domain{a.Addrs.From(), a.Domain}
				c.names[at] = append(c.names[at], a.Name)
			}
		}
	}
	return c.names[at]
}

// take records a row.
func (c *cutover) take(l *line, h *here) {
	server := func() string { return l.v.Kind + " " + routing.ShellWord(l.v.Name) }
	if l.Status != Ready {
		c.staying[server()] = true
	}
	if !l.addr.IsValid() {
		return
	}
	m := l.site.move
	if m == nil {
		link := l.site.outcome.Link
		m = &move{addr: l.addr, link: link, present: l.Present,
			inSubnet: h.connects(link, l.addr)}
		l.site.move = m
		c.moves = append(c.moves, m)
	}
	m.blocked = m.blocked || l.Status != Ready
	m.exact = m.exact || l.Match != matchWildcard
	names, read := c.namesOf(l)
	m.unread = m.unread || !read
	for _, name := range names {
		m.names = appendNew(m.names, name)
	}
	if len(names) == 0 {
		m.virtuals = appendNew(m.virtuals, server())
	}
}

// namesOf returns the virtual addresses of a row's address, and whether the
// files have them; none if nothing names one.
func (c *cutover) namesOf(l *line) (names []string, read bool) {
	if l.d.Address != "" {
		return []string{l.d.Address}, true
	}
	names = c.named(domain{l.addr, l.d.Domain})
	if name := nameIn(*l.d); len(names) == 0 && name != "" {
		return []string{name}, false
	}
	return names, true
}

// free records what else answers for an address: its kind and name.
func (c *cutover) free(what string) { c.freed = appendNew(c.freed, what) }

// yield stops the BIG-IP from answering for addresses by other names; undo
// makes it answer again.
func (c *cutover) yield() (s, undo Step) {
	s = Step{Phase: "prepare", Where: "big-ip",
		Title: "stop the ARP of translations to addresses of virtual servers"}
	undo = Step{Phase: "roll-back", Where: "big-ip",
		Title: "answer ARP for the translations again"}
	for _, what := range c.freed {
		s.Lines = append(s.Lines, "tmsh modify "+what+" arp disabled")
		undo.Lines = append(undo.Lines, "tmsh modify "+what+" arp enabled")
	}
	if len(s.Lines) > 0 {
		s.Units, undo.Units = c.pair.units, c.pair.units
		s.Notes = []string{"Servers in the same subnet can no longer send replies to the " +
			"address, so translate to another one first. Then take the files again."}
	}
	return s, undo
}

// nameIn returns the name of the virtual address in a destination, which is
// that name and a port: /Common/10.0.0.1%2 of /Common/10.0.0.1%2:443; "" if the
// text has another shape.
func nameIn(d bigip.Destination) string {
	dir, base := path.Split(d.Text)
	addr, _ := d.Host()
	for _, separator := range ":." {
		i := strings.LastIndexByte(base, byte(separator))
		if i < 0 || dir == "" {
			continue
		}
		plain, _, _ := strings.Cut(base[:i], "%")
		if a, err := netip.ParseAddr(plain); err == nil && a == addr {
			return dir + base[:i]
		}
	}
	return ""
}

// steps returns the steps of the cut-over in order. listens are the lines that
// nginx.conf needs.
func (c *cutover) steps(need *needs, listens []string) []Step {
	c.stay()
	yield, translate := c.yield()
	lead, forget := need.lead()
	leave, serve := c.leave()
	arrive, remove := c.arrive()
	slices.Reverse(remove)
	back := Step{Phase: "roll-back", Where: "big-ip", Title: "serve the addresses again",
		Lines: serve}
	if len(serve) > 0 {
		back.Units = c.pair.units
		back.Notes = []string{"The BIG-IP announces an address when you enable its ARP; " +
			"this host cannot do that. Undo the changes of routes on other routers, " +
			"too."}
	}
	return slices.DeleteFunc([]Step{
		need.findOut(),
		{Phase: "prepare", Where: "nginx.conf", Title: "listen where the BIG-IP did",
			Lines: listens}, need.tell(),
		yield, lead,
		c.load(len(need.all())+len(need.asked)+len(listens)+len(need.routes) > 0),
		leave,
		arrive,
		{Phase: "cut-over", Where: "host",
			Title: "ask the kernel, and then each virtual server from a client " +
				"behind each router",
			Lines: []string{"lasthop check"}},
		{Phase: "roll-back", Where: "host", Title: "remove the addresses",
			Lines: remove}, back, translate, c.returned(), forget,
	}, func(s Step) bool { return len(s.Lines)+len(s.Notes) == 0 })
}

// findOut names the gateways that are unknown on this host.
func (n *needs) findOut() Step {
	s := Step{Phase: "prepare", Title: "find the routers that lasthop cannot detect"}
	for _, u := range n.open() {
		subnet := ""
		if len(u.prefixes) > 0 {
			subnet = " (" + list(u.prefixes) + ")"
		}
		table := "arp"
		if u.family == routing.IPv6 {
			table = "ndp"
		}
		vlan := strings.TrimPrefix(u.vlan, "/Common/")
		s.Notes = append(s.Notes,
			fmt.Sprintf("%s of %s, VLAN %s%s: ask the network administrator. On the "+
				"BIG-IP, tcpdump -nnei %s -c 20 shows the MAC address that "+
				"requests come from, and tmsh show net %s shows whose it "+
				"is.", u.family,
				u.link, u.vlan, subnet, routing.ShellWord(vlan), table))
	}
	return s
}

// tell writes the step with the settings for lasthop.yaml.
func (n *needs) tell() Step {
	s := Step{Phase: "prepare", Where: "lasthop.yaml",
		Title: "tell lasthop what it cannot detect"}
	flags := n.all()
	if len(flags)+len(n.asked) == 0 {
		return s
	}
	s.Lines = strings.Split(strings.TrimSuffix(n.settings(), "\n"), "\n")
	s.Notes = []string{"Keep the other keys of the file."}
	if len(flags) > 0 {
		s.Notes[0] += " Or as flags for migrate, plan and apply: " +
			routing.Some(flags, 6)
	}
	if len(n.asked) > 0 {
		s.Notes = append(s.Notes, "A comment that begins with \"only if\" is a question. "+
			"If the condition is true, put what follows it in place of the comment.")
	}
	return s
}

// lead writes the step with the routes that main lacks; undo deletes them.
func (n *needs) lead() (s, undo Step) {
	s = Step{Phase: "prepare", Where: "host", Title: "add the routes that the BIG-IP had"}
	undo = Step{Phase: "roll-back", Where: "host", Title: "delete the routes"}
	for _, r := range n.routes {
		s.Lines = append(s.Lines, r.command("add", r.link))
		undo.Lines = append(undo.Lines, r.command("del", r.link))
	}
	if len(s.Lines) > 0 {
		s.Notes = []string{"They are gone after a reboot: add them to the host's " +
			"network configuration, too."}
	}
	return s, undo
}

// stay blocks the addresses that cannot move now: those without a way here, and
// those that can only leave the BIG-IP with a virtual server of which a part
// stays there.
func (c *cutover) stay() {
	for changed := true; changed; {
		changed = false
		for _, m := range c.moves {
			block := m.link == "" || len(m.names) == 0 &&
				slices.ContainsFunc(m.virtuals,
					func(v string) bool { return c.staying[v] })
			if m.blocked = m.blocked || block; !m.blocked || len(m.names) > 0 {
				continue
			}
			for _, v := range m.virtuals {
				changed = changed || !c.staying[v]
				c.staying[v] = true
			}
		}
	}
}

// load makes everything ready before the move. edited means that the settings
// of lasthop or NGINX change.
func (c *cutover) load(edited bool) Step {
	s := Step{Phase: "prepare", Where: "host",
		Title: "load nginx.conf and lasthop.yaml; rules for addresses that are not here " +
			"yet do no harm"}
	absent := false
	bind := map[routing.Family]bool{}
	for _, m := range c.moves {
		absent = absent || !m.present
		if !m.present && m.exact {
			bind[routing.FamilyOf(m.addr)] = true
		}
	}
	for _, f := range routing.Families {
		if bind[f] {
			s.Lines = append(s.Lines, "sysctl -w net."+strings.ToLower(f.String())+
				".ip_nonlocal_bind=1")
		}
	}
	if len(bind) > 0 {
		s.Notes = append(s.Notes, "With ip_nonlocal_bind NGINX starts before the "+
			"addresses are here. Keep it in /etc/sysctl.d if they fail over.")
	}
	if edited || absent {
		s.Lines = append(s.Lines, "nginx -t", "nginx -s reload", "lasthop plan",
			"lasthop apply")
		s.Notes = append(s.Notes,
			"Then run this migrate again, until every virtual server is ready. If "+
				"the daemon runs: systemctl reload lasthop instead of apply.")
	}
	return s
}

// leave stops the BIG-IP from serving the addresses that can move; undo serves
// them again.
func (c *cutover) leave() (s Step, undo []string) {
	s = Step{Phase: "cut-over", Where: "big-ip", Title: "stop serving the addresses"}
	modify := func(what, off, on string) {
		s.Lines = append(s.Lines, "tmsh modify "+what+off)
		undo = append(undo, "tmsh modify "+what+on)
	}
	var blocked, unnamed []string
	left := map[string]bool{}
	for _, m := range c.moves {
		switch {
		case m.blocked:
			blocked = append(blocked, m.addr.String())
			continue
		case m.present:
			continue
		case len(m.names) == 0:
			unnamed = append(unnamed, m.addr.String())
			for _, name := range m.virtuals {
				if !left[name] {
					left[name] = true
					modify(name, " disabled", " enabled")
				}
			}
		}
		for _, name := range m.names {
			off, on := " arp disabled enabled no", " arp enabled enabled yes"
			if c.noARP[name] { // undo must not turn on what was off
				off, on = " enabled no", " enabled yes"
			}
			modify("ltm virtual-address "+routing.ShellWord(name), off, on)
		}
	}
	if len(blocked) > 0 {
		s.Notes = append(s.Notes,
			"Not yet, because something is missing for them: "+
				routing.Some(blocked, 6)+".")
	}
	if len(unnamed) > 0 {
		s.Notes = append(s.Notes, "The files do not have the virtual address of "+
			routing.Some(unnamed, 6)+
			", which answers ARP as long as it is enabled. tmsh "+
			"list ltm virtual-address shows its name; then: tmsh modify ltm "+
			"virtual-address NAME arp disabled enabled no.")
	}
	if len(s.Lines) > 0 {
		s.Units = c.pair.units
		s.Notes = slices.Concat(s.Notes, c.unread(), c.pair.notes(c.moves))
	}
	return s, undo
}

// unread notes that the names in some commands are not those of virtual
// addresses in the files, but those in the destinations.
func (c *cutover) unread() []string {
	var addrs []string
	for _, m := range c.moves {
		if m.unread && !m.blocked && !m.present {
			addrs = append(addrs, m.addr.String())
		}
	}
	if len(addrs) == 0 {
		return nil
	}
	return []string{"The files do not have the virtual addresses of " +
		routing.Some(addrs, 6) + ": the commands take their names from the destinations."}
}

// arrive adds the same addresses here, and announces each to the neighbours,
// which takes 3 s: no address waits for that of another. undo removes them.
func (c *cutover) arrive() (s Step, undo []string) {
	s = Step{Phase: "cut-over", Where: "host", Title: "take over the addresses"}
	var routed []string
	announced := false
	for _, m := range c.moves {
		if m.blocked || m.present {
			continue
		}
		link := routing.ShellWord(m.link)
		what := netip.PrefixFrom(m.addr, m.addr.BitLen()).String() + " dev " + link
		if m.inSubnet && m.addr.Is6() { // the kernel announces them as it adds the address
			s.Lines = appendNew(s.Lines,
				routing.Sysctl("net/ipv6/conf/"+m.link+"/ndisc_notify", 1))
		}
		s.Lines = append(s.Lines, "ip address add "+what)
		if m.inSubnet && m.addr.Is4() {
			s.Lines = append(s.Lines,
				"arping -U -c 3 -I "+link+" "+m.addr.String()+" &")
			announced = true
		}
		undo = append(undo, "ip address del "+what)
		if !m.inSubnet {
			routed = append(routed, m.addr.String())
		}
	}
	if len(s.Lines) == 0 {
		return s, nil
	}
	if announced {
		s.Lines = append(s.Lines, "wait")
	}
	s.Lines = append(s.Lines, "lasthop apply") // an IPv6 address brings a route of its own
	s.Notes = append(s.Notes, "They are gone after a reboot. With keepalived: write them as "+
		"lines of virtual_ipaddress, ADDRESS dev INTERFACE. keepalived tells the "+
		"neighbours by itself; otherwise they keep the BIG-IP's MAC address for hours.")
	if len(routed) > 0 {
		s.Notes = append(s.Notes, "These are in no subnet of their interface here, so "+
			"routers have a route for them to the BIG-IP. Change that route to this "+
			"host: "+routing.Some(routed, 6)+".")
	}
	return s, undo
}

// returned checks whether the BIG-IP answers for the addresses again. Its
// versions differ in what they announce (F5's bug 508797).
func (c *cutover) returned() Step {
	s := Step{Phase: "roll-back", Where: "host", Title: "check that the BIG-IP has the " +
		"addresses, and then ask each virtual server from a client behind each router"}
	stale := false
	for _, m := range c.moves {
		if m.blocked || m.present || !m.inSubnet || len(m.names) > 0 &&
			!slices.ContainsFunc(m.names, func(s string) bool { return !c.noARP[s] }) {
			continue
		}
		stale = true
		if m.addr.Is4() {
			s.Lines = append(s.Lines, "arping -f -w 5 -I "+routing.ShellWord(m.link)+
				" "+m.addr.String())
		}
	}
	if len(s.Lines) > 0 {
		s.Notes = append(s.Notes, "Each command ends with the first answer. Without one "+
			"it fails after 5 s: the BIG-IP does not have the address.")
	}
	if stale {
		s.Notes = append(s.Notes, "If a client behind a router gets no answer from an "+
			"address that the BIG-IP has, the router still uses this host's MAC "+
			"address: delete the ARP entry of the address there (IPv6: the "+
			"neighbour entry).")
	}
	return s
}
