package bigip

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"lasthop/routing"
)

// move is an address that leaves the BIG-IP for this host.
type move struct {
	addr     netip.Addr
	link     string
	present  bool
	blocked  bool     // something is missing, or must be read, for a virtual server on it
	exact    bool     // a listener names it, or will
	inSubnet bool     // of the link
	names    []string // of its virtual addresses on the BIG-IP
	virtuals []string // for an address without: kind and name
}

// move takes in a row of an address.
func (j *joiner) move(l *line) {
	i, ok := j.moving[l.addr]
	if !ok {
		i = len(j.moves)
		j.moving[l.addr] = i
		j.moves = append(j.moves, move{addr: l.addr, present: l.Present})
	}
	m := &j.moves[i]
	m.blocked = m.blocked || l.Status != Ready
	m.exact = m.exact || l.Match != matchWildcard
	if link := j.outcomes[l.addr].Link; link != "" && m.link == "" {
		m.link = link
	}
	m.inSubnet = m.inSubnet || l.place.contains(l.addr)
	names := j.names[served{l.addr, l.d.Domain}]
	if l.d.Address != "" {
		names = []string{l.d.Address}
	}
	for _, name := range names {
		m.names = appendNew(m.names, name)
	}
	if len(names) == 0 {
		m.virtuals = appendNew(m.virtuals, l.server())
	}
}

// general adds what is to be known of the whole.
func (j *joiner) general() {
	for i, names := range j.virtuals {
		if f := &j.findings[i]; len(names) > 1 || names[0] != f.Subject {
			f.Message += "; for " + virtualsText(names)
		}
	}
	for _, w := range j.config.Warnings {
		j.findings = append(j.findings, routing.Finding{Code: routing.Code(w.Code),
			Severity: routing.Warning, Subject: w.Subject, Message: w.Message,
			Hint: w.Hint, Origin: w.Origin})
	}
	j.global()
	j.newListeners()
	j.rules()
	j.translations()
	j.sourceChecking()
	j.absent()
}

func virtualsText(names []string) string {
	const shown = 3
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more virtual servers", strings.Join(names[:shown], ", "),
		len(names)-shown)
}

// global says where F5's default was taken.
func (j *joiner) global() {
	if j.config.Global.Value != "" || !slices.ContainsFunc(j.rows,
		func(r Row) bool { return r.Level == string(ByVariable) }) {
		return
	}
	j.findings = append(j.findings, routing.Finding{Code: "global-unknown",
		Severity: routing.Info, Subject: lastHopVariable,
		Message: "no file has it, as neither bigip.conf nor an SCF does: F5's " +
			"default, enable, is taken",
		Hint: "on the BIG-IP: tmsh list sys db " + lastHopVariable +
			"; if it is disable: --autolasthop disable. A UCS has it"})
}

// newListeners names what NGINX listens on and no virtual server did.
func (j *joiner) newListeners() {
	var names []string
	first := ""
	for i, l := range j.here.Listeners {
		if j.used[i] || l.Addr.IsLoopback() {
			continue
		}
		name := endpoint(l.Addr, l.Ports)
		if l.Transport == routing.UDP {
			name += "/udp"
		}
		names = appendNew(names, name)
		if first == "" && len(l.Origins) > 0 {
			first = l.Origins[0]
		}
	}
	if len(names) == 0 {
		return
	}
	j.findings = append(j.findings, routing.Finding{Code: "new-listener",
		Severity: routing.Info, Subject: some(names, 2), Origin: first,
		Message: "NGINX listens there, and no virtual server in the files did"})
}

// some lists the first n things, and says how many more there are.
func some(list []string, n int) string {
	if len(list) <= n {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:n], ", "), len(list)-n)
}

// rules names iRules that nobody can have read. F5's own, which no file has,
// set no ways.
func (j *joiner) rules() {
	var names []string
	origin := ""
	for _, v := range j.config.Virtuals {
		if _, unserved := v.unserved(); unserved {
			continue
		}
		for _, r := range v.Rules {
			if r.Origin == "" && !strings.HasPrefix(path.Base(r.Name), "_sys_") {
				names, origin = appendNew(names, r.Name), cmp.Or(origin, v.Origin)
			}
		}
	}
	if len(names) > 0 {
		j.findings = append(j.findings, routing.Finding{Code: "rule-unknown",
			Severity: routing.Info, Subject: some(names, 4), Origin: origin,
			Message: "iRules of virtual servers that are not in the files: they may " +
				"use lasthop or nexthop",
			Hint: "give the file that has them"})
	}
}

// translations names what the BIG-IP did beside virtual servers.
func (j *joiner) translations() {
	var snats, nats []string
	origin := ""
	for _, s := range j.config.SNATs {
		snats, origin = append(snats, s.Name), s.Origin
	}
	if len(snats) > 0 {
		j.findings = append(j.findings, routing.Finding{Code: "snat",
			Severity: routing.Info, Subject: some(snats, 4), Origin: origin,
			Message: "the BIG-IP translated the sources of connections that others " +
				"made through it; an NGINX host forwards nothing",
			Hint: "give their servers another gateway, or translate on a router"})
	}
	for _, n := range j.config.NATs {
		nats, origin = append(nats, n.Name), n.Origin
	}
	if len(nats) > 0 {
		j.findings = append(j.findings, routing.Finding{Code: "nat", Severity: routing.Info,
			Subject: some(nats, 4), Origin: origin,
			Message: "the BIG-IP translated addresses one to one, in both " +
				"directions; NGINX does not",
			Hint: "listen on the translation address, or translate on a router"})
	}
}

// sourceChecking names the VLANs with a strict reverse path check that was in
// effect.
func (j *joiner) sourceChecking() {
	var vlans []string
	origin := ""
	for _, v := range j.config.VLANs {
		if v.SourceChecking && slices.ContainsFunc(j.rows,
			func(r Row) bool {
				return r.VLAN == v.Name && r.Return == string(Routed)
			}) {
			vlans, origin = append(vlans, v.Name), v.Origin
		}
	}
	if len(vlans) == 0 {
		return
	}
	j.findings = append(j.findings, routing.Finding{Code: "source-checking",
		Severity: routing.Info, Subject: some(vlans, 4), Origin: origin,
		Message: "the BIG-IP dropped what came in by these VLANs and would have been " +
			"answered by another; Linux calls this a strict rp_filter",
		Hint: "if it is wanted here: sysctl -w net.ipv4.conf.IF.rp_filter=1"})
}

// absent names addresses that are to be moved.
func (j *joiner) absent() {
	var names []string
	for _, m := range j.moves {
		if !m.present {
			names = append(names, m.addr.String())
		}
	}
	if len(names) == 0 {
		return
	}
	j.findings = append(j.findings, routing.Finding{Code: "address-missing",
		Severity: routing.Info, Subject: some(names, 2),
		Message: "not on the host, as long as the BIG-IP has them; their ways back can " +
			"be ready before they move",
		Hint: "the steps say when and how to add them"})
}

// steps are the cut-over in order.
func (j *joiner) steps() []Step {
	var steps []Step
	j.stay()
	add := func(s Step) {
		if len(s.Lines)+len(s.Notes) > 0 {
			steps = append(steps, s)
		}
	}
	add(j.findOut())
	add(Step{Phase: "prepare", Where: "nginx.conf", Title: "listen where the BIG-IP did",
		Lines: j.need.listens})
	if len(j.need.flags) > 0 {
		add(Step{Phase: "prepare", Where: "lasthop.yaml",
			Title: "tell lasthop what nobody can see",
			Lines: strings.Split(strings.TrimSuffix(j.need.settings(), "\n"), "\n"),
			Notes: []string{"Keep other keys that the file has. Or as flags, for " +
				"migrate, plan and apply alike: " + some(j.need.flags, 6)}})
	}
	add(j.load())
	var here, away []string // undo
	add(j.leave(&away))
	add(j.arrive(&here))
	add(Step{Phase: "cut-over", Where: "host", Title: "ask the kernel, and then each virtual " +
		"server from a client behind each router",
		Lines: []string{"lasthop check"}})
	slices.Reverse(here)
	add(Step{Phase: "roll-back", Where: "host", Title: "take the addresses away", Lines: here})
	if len(away) > 0 {
		add(Step{Phase: "roll-back", Where: "big-ip", Title: "serve the addresses again",
			Lines: away, Notes: []string{"Routes for them elsewhere, and ARP caches, " +
				"go back as they came."}})
	}
	return steps
}

// stay blocks the addresses that cannot move alone: those without a way here,
// and those that can only leave the BIG-IP with a virtual server of which a
// part stays there.
func (j *joiner) stay() {
	for changed := true; changed; {
		changed = false
		for i := range j.moves {
			m := &j.moves[i]
			block := m.link == "" || len(m.names) == 0 &&
				slices.ContainsFunc(m.virtuals, func(v string) bool {
					return j.staying[v]
				})
			if m.blocked = m.blocked || block; !m.blocked || len(m.names) > 0 {
				continue
			}
			for _, v := range m.virtuals {
				changed = changed || !j.staying[v]
				j.staying[v] = true
			}
		}
	}
}

// findOut names the gateways that nobody can see.
func (j *joiner) findOut() Step {
	s := Step{Phase: "prepare", Title: "find out the routers that nobody can see"}
	for _, u := range j.need.unknowns {
		subnet := ""
		if len(u.prefixes) > 0 {
			subnet = " (" + prefixList(u.prefixes) + ")"
		}
		s.Notes = append(s.Notes, fmt.Sprintf("%s of %s, VLAN %s%s: who runs the network "+
			"knows it. On the BIG-IP, tcpdump -nnei VLAN shows the MAC address that "+
			"requests come from, and tmsh show net arp whose it is.",
			u.family, u.link, u.vlan, subnet))
	}
	return s
}

// load makes everything ready before anything moves.
func (j *joiner) load() Step {
	s := Step{Phase: "prepare", Where: "host",
		Title: "load it; rules for addresses that are not here yet do no harm"}
	four, six := false, false
	for _, m := range j.moves {
		if !m.present && m.exact {
			four, six = four || m.addr.Is4(), six || m.addr.Is6()
		}
	}
	if four {
		s.Lines = append(s.Lines, "sysctl -w net.ipv4.ip_nonlocal_bind=1")
	}
	if six {
		s.Lines = append(s.Lines, "sysctl -w net.ipv6.ip_nonlocal_bind=1")
	}
	if four || six {
		s.Notes = append(s.Notes, "With ip_nonlocal_bind NGINX starts before the "+
			"addresses are here. Keep it in /etc/sysctl.d if they fail over.")
	}
	if len(j.need.flags)+len(j.need.listens) > 0 ||
		slices.ContainsFunc(j.moves, func(m move) bool { return !m.present }) {
		s.Lines = append(s.Lines, "nginx -t", "nginx -s reload", "lasthop plan",
			"lasthop apply")
		s.Notes = append(s.Notes, "Then run this migrate again, until every virtual "+
			"server is ready. Where the daemon runs: systemctl reload "+
			"lasthop instead of apply.")
	}
	return s
}

// leave are the addresses that can move, on the BIG-IP.
func (j *joiner) leave(undo *[]string) Step {
	s := Step{Phase: "cut-over", Where: "big-ip", Title: "stop serving the addresses"}
	var blocked, unnamed []string
	left := map[string]bool{}
	for _, m := range j.moves {
		if m.blocked {
			blocked = append(blocked, m.addr.String())
			continue
		}
		if m.present {
			continue
		}
		for _, name := range m.names {
			off, on := " arp disabled", " arp enabled"
			if j.noARP[name] { // the way back must not turn on what was off
				off, on = "", ""
			}
			s.Lines = append(s.Lines, "tmsh modify ltm virtual-address "+shell(name)+
				off+" enabled no")
			*undo = append(*undo, "tmsh modify ltm virtual-address "+shell(name)+on+
				" enabled yes")
		}
		if len(m.names) > 0 {
			continue
		}
		unnamed = append(unnamed, m.addr.String())
		for _, name := range m.virtuals {
			if left[name] {
				continue
			}
			left[name] = true
			s.Lines = append(s.Lines, "tmsh modify "+name+" disabled")
			*undo = append(*undo, "tmsh modify "+name+" enabled")
		}
	}
	if len(blocked) > 0 {
		s.Notes = append(s.Notes,
			"Not yet, something is missing for them: "+some(blocked, 6)+".")
	}
	if len(unnamed) > 0 {
		s.Notes = append(s.Notes, "In none of the files is the virtual address of "+
			some(unnamed, 6)+", which answers ARP as long as it is enabled. tmsh "+
			"list ltm virtual-address shows its name; then: tmsh modify ltm "+
			"virtual-address NAME arp disabled enabled no.")
	}
	if len(s.Lines) > 0 {
		s.Notes = append(s.Notes, "Not saved, so that a restart goes back; when all is "+
			"well: tmsh save sys config.")
	}
	return s
}

// arrive are the same addresses here.
func (j *joiner) arrive(undo *[]string) Step {
	s := Step{Phase: "cut-over", Where: "host", Title: "take the addresses over"}
	routed := []string{}
	for _, m := range j.moves {
		if m.blocked || m.present {
			continue
		}
		prefix := netip.PrefixFrom(m.addr, m.addr.BitLen()).String()
		s.Lines = append(s.Lines, "ip address add "+prefix+" dev "+shell(m.link))
		*undo = append(*undo, "ip address del "+prefix+" dev "+shell(m.link))
		if !m.inSubnet {
			routed = append(routed, m.addr.String())
		}
	}
	if len(s.Lines) == 0 {
		return s
	}
	s.Lines = append(s.Lines, "lasthop apply") // an IPv6 address brings a route of its own
	s.Notes = append(s.Notes, "ip forgets them at a restart. With keepalived: the same as "+
		"lines of virtual_ipaddress, ADDRESS dev INTERFACE.",
		"Neighbours still have the BIG-IP's MAC address: arping -U -c 3 -I INTERFACE "+
			"ADDRESS tells them; keepalived does it by itself.")
	if len(routed) > 0 {
		s.Notes = append(s.Notes, "In no subnet here, so that routers have a route to "+
			"the BIG-IP for them, which must lead here now: "+some(routed, 6)+".")
	}
	return s
}
