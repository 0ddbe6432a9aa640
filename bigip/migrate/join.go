package migrate

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"lasthop/bigip"
	"lasthop/routing"
)

// context is that of the listeners that Join adds.
const context = "big-ip"

// maxPasses bounds how often Join decides again: each pass includes the
// previous proposals, so that their questions are asked now and not in the next
// run.
const maxPasses = 4

// Join finds for each virtual server what takes its place on this host, and
// what is missing for that. in.Listeners are NGINX's. Join decides for them and
// for the virtual servers' addresses together, so that the plan has an outcome
// for each of these. The rows of virtual servers that the selection leaves out
// are not-applicable. The error is about the selection, or that of
// routing.Decide.
func (s Selection) Join(c bigip.Config, in routing.Inputs) (Result, error) {
	taken, selected, err := s.apply(c)
	if err != nil {
		return Result{}, err
	}
	need, host, f := newNeeds(in.Policy), in.Host, newFiles(taken)
	here := presentOn(in.Host)
	f.selected, f.later = selected, newWaves(c, selected.left, here)
	j, err := newJoiner(f, in, need)
	if err != nil {
		return Result{}, err
	}
	j.virtuals()
	for asked := 0; asked < need.proposed && j.passes < maxPasses; j.passes++ {
		asked = need.proposed
		in.Policy, in.Host = need.policy, need.on(host)
		next, err := newJoiner(f, in, need)
		if err != nil {
			break // the proposals contradict each other: the user chooses first
		}
		next.virtuals()
		j.ask(next)
	}
	r := j.result()
	r.Selection, r.Rows = selected.all(), selected.among(r.Rows, c, here)
	return r, nil
}

// newJoiner decides for NGINX's listeners and the virtual servers' addresses.
func newJoiner(f *files, in routing.Inputs, need *needs) (*joiner, error) {
	nginx := newListening(in.Listeners)
	nginx.leave(f.selected.left)
	in.Listeners = slices.Concat(f.wanted, in.Listeners)
	d, err := routing.Decide(in)
	if err != nil {
		return nil, err
	}
	j := &joiner{files: f, network: newNetwork(f.config, in.Host, f.selected), nginx: nginx,
		here: newHere(in, d.Plan), need: need, cut: newCutover(f.config),
		ways:   map[lookup]routing.Way{},
		misses: misses{index: map[routing.Finding]*miss{}}}
	j.sites = newSites(f, j.network, j.here)
	return j, nil
}

// files is the contents of the BIG-IP's files, whatever this host decides.
type files struct {
	config     bigip.Config
	ingresses  [][]bigip.Ingress // by index of config.Virtuals; nil if there is no reply
	wanted     []routing.Listener
	holders    map[domain][]holder
	advertised map[domain]bool
	shared     map[offer][]string // virtual servers

	selected *selected // config has what it takes
	later    *waves    // what it leaves out
}

func newFiles(c bigip.Config) *files {
	f := &files{config: c, ingresses: make([][]bigip.Ingress, len(c.Virtuals)),
		wanted: wanted(c), holders: newHolders(c), advertised: newAdvertised(c),
		shared: newShared(c)}
	for i := range c.Virtuals {
		if reason, _ := unserved(&c.Virtuals[i]); reason == "" {
			f.ingresses[i] = c.Ingresses(c.Virtuals[i])
		}
	}
	return f
}

// virtuals makes the lines of all virtual servers.
func (j *joiner) virtuals() {
	j.lines = make([]*line, 0, len(j.config.Virtuals))
	for i := range j.config.Virtuals {
		j.virtual(&j.config.Virtuals[i], j.ingresses[i])
	}
}

// ask adds to each line what is only missing once the proposals are followed.
func (j *joiner) ask(next *joiner) {
	for i, l := range j.lines {
		for _, p := range next.lines[i].problems {
			if !slices.ContainsFunc(l.problems,
				func(q problem) bool { return q.Code == p.Code }) {
				l.problems = append(l.problems, p)
			}
		}
	}
}

// result ends all lines.
func (j *joiner) result() Result {
	j.rows = make([]Row, 0, len(j.lines))
	for rest := j.lines; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].run == rest[0].run {
			n++
		}
		own := ""
		if s := rest[0].site; s != nil {
			own = s.link
		}
		for _, l := range merged(rest[:n], own) {
			j.end(l)
		}
		rest = rest[n:]
	}
	plan := j.here.plan
	plan.Outcomes = plan.Outcomes[:len(j.wanted)] // those of NGINX's listeners follow
	r := Result{Plan: plan, Rows: j.rows,
		Findings: slices.Concat(j.misses.findings(), j.summary()),
		Flags:    j.need.all(), Settings: j.need.settings(),
		Steps: j.cut.steps(j.need, j.nginx.missing)}
	routing.SortFindings(r.Findings)
	return r
}

// served yields the addresses that virtual servers serve, each with a
// destination that is only this address.
func served(c bigip.Config) iter.Seq2[netip.Addr, bigip.Destination] {
	return func(yield func(netip.Addr, bigip.Destination) bool) {
		for v := range serving(c) {
			for _, d := range v.Destinations {
				if addr, ok := d.Host(); ok && !yield(addr, d) {
					return
				}
			}
		}
	}
}

// wanted returns a listener for each address that virtual servers serve.
func wanted(c bigip.Config) []routing.Listener {
	seen := make(map[netip.Addr]bool, len(c.Virtuals))
	out := make([]routing.Listener, 0, len(c.Virtuals))
	for addr, d := range served(c) {
		if seen[addr] || addr.IsUnspecified() {
			continue
		}
		seen[addr] = true
		// One port is enough: the mode last-hop has no room for each of
		// them.
		port := routing.PortRange{First: 1, Last: 1}
		if len(d.Ports) > 0 && !d.AnyPort() {
			port.First, port.Last = d.Ports[0].First, d.Ports[0].First
		}
		out = append(out, routing.Listener{Addr: addr, Ports: port,
			Transport: routing.TCP, Context: context, Listen: d.Text,
			Origins: []string{d.Origin}})
	}
	return out
}

// unserved returns why a virtual server does not reply to clients, and what the
// BIG-IP did; "" if it replied to them.
func unserved(v *bigip.Virtual) (reason, before string) {
	if v.Disabled != "" {
		return "disabled", "disabled by " + v.Disabled
	}
	switch v.Type {
	case bigip.IPForward:
		return "forwarding", "routes packets on"
	case bigip.L2Forward:
		return "forwarding", "forwards frames"
	case bigip.Reject:
		return "reject", "rejects its clients"
	case bigip.Internal:
		return "internal", "serves other virtual servers"
	case bigip.DHCPRelay:
		return "dhcp-relay", "relays DHCP"
	}
	return "", ""
}

// joiner is a Result in the making.
type joiner struct {
	*files
	network network
	sites   sites
	nginx   *listening
	here    *here
	ways    map[lookup]routing.Way
	need    *needs
	passes  int

	lines  []*line
	cut    *cutover
	misses misses
	rows   []Row
}

// line is a Row in the making.
type line struct {
	Row
	v        *bigip.Virtual
	d        *bigip.Destination
	port     *routing.PortRange // nil if it is not known
	in       *bigip.Ingress     // nil if the files name no VLAN
	place    place
	addr     netip.Addr // not valid if the destination is not one address
	site     *site      // of addr; nil if that is not valid
	problems []problem

	// The routers that the BIG-IP sent its replies to, as answered returns
	// them.
	on, elsewhere []router

	run int // the same for all lines of a destination's port

	// The user's decisions, and the clients that lose their replies by
	// them.
	decided, loses []string
	decisions      []routing.Finding
}

// problem is something that is missing: the text for the finding of all rows
// that miss it, and the remedy for this row if it is not the Hint.
type problem struct {
	routing.Finding
	remedy string
}

// needs adds something that is missing, and returns it.
func (l *line) needs(code routing.Code, subject, origin, message, hint string) *problem {
	l.problems = append(l.problems, problem{Finding: routing.Finding{Code: code,
		Severity: routing.Warning, Subject: subject, Origin: origin, Message: message,
		Hint: hint}})
	return &l.problems[len(l.problems)-1]
}

// manual adds something that the user must decide.
func (l *line) manual(code routing.Code, subject, origin, message, hint string) {
	l.needs(code, subject, origin, message, hint).Severity = routing.Error
}

// accept records what the user has decided by a flag: the condition under which
// it is right, and the clients that lose by it, "" if none are known.
func (l *line) accept(loses, question, flag string) {
	question = "only if " + question
	f := routing.Finding{Code: "decided", Severity: routing.Info, Subject: l.subject(),
		Message: "an administrator decided this: " + flag + ", " + question,
		Hint:    "if that is wrong, change the decision", Origin: l.place.origin}
	if loses != "" {
		f.Severity = routing.Warning
		f.Message = loses + " get replies by another path than their requests; " + f.Message
		l.loses = appendNew(l.loses, loses)
	}
	l.decided = appendNew(l.decided, question+" ("+flag+")")
	l.decisions = append(l.decisions, f)
}

// virtual adds the rows of a virtual server. Only lines that are kept are on
// the heap: each is large.
func (j *joiner) virtual(v *bigip.Virtual, ins []bigip.Ingress) {
	l := line{Row: Row{Virtual: v.Name, Origin: v.Origin, Protocol: v.Protocol}, v: v,
		run: len(j.lines)}
	if v.Source.IsValid() {
		l.Source = v.Source.String()
	}
	if reason, before := unserved(v); reason != "" {
		l.Status, l.Reason, l.Before = NotApplicable, reason, before
		if len(v.Destinations) > 0 {
			l.d = &v.Destinations[0]
			l.setDestination()
			// switched off there, since it has moved
			l.Present = reason == "disabled" && j.here.present[l.d.Addrs.From()] &&
				j.selected.serves(l.d.Domain)
		}
		kept := l
		j.lines = append(j.lines, &kept)
		return
	}
	if len(v.Destinations) == 0 {
		kept := l
		kept.d = &bigip.Destination{}
		j.find(&kept)
		j.add(&kept)
		return
	}
	for i := range v.Destinations {
		l.d = &v.Destinations[i]
		for k := range l.d.Ports {
			l.port = &l.d.Ports[k]
			j.destination(l, ins)
		}
		if l.port = nil; len(l.d.Ports) == 0 || l.d.Service != "" {
			j.destination(l, ins)
		}
	}
}

// destination adds a row for each VLAN, or one row if the files name no VLAN.
func (j *joiner) destination(l line, ins []bigip.Ingress) {
	l.setDestination()
	l.run = len(j.lines)
	if len(ins) == 0 {
		if l.v.VLANs.Unclear {
			l.needs("vlans-unclear", l.v.Name, l.v.Origin,
				"it is enabled on a list of VLANs, and the list is empty",
				"check on the BIG-IP where it served clients")
		} else {
			l.needs("no-vlan", l.v.Name, l.v.Origin,
				"the files have no VLAN that its clients could come in by",
				"give bigip_base.conf, or check on the BIG-IP whether it served "+
					"any client")
		}
		kept := l
		j.find(&kept)
		j.add(&kept)
		return
	}
	for i := range ins {
		kept := l
		kept.in, kept.place = &ins[i], j.network.places[ins[i].VLAN]
		j.ingress(&kept)
		j.add(&kept)
	}
}

// find finds the listener and the address of a line.
func (j *joiner) find(l *line) {
	j.nginx.find(l)
	l.site = j.sites[l.addr]
}

// add adds a line that applies.
func (j *joiner) add(l *line) {
	if l.v.Damaged {
		l.needs("damaged", l.v.Name, l.v.Origin,
			"migrate could not read its whole stanza: settings may be missing",
			"take the file from the BIG-IP again")
	}
	j.lines = append(j.lines, l)
}

func (l *line) setDestination() {
	l.Destination, l.Address, l.Port = l.d.Text, addressText(*l.d), "any"
	port := l.port
	if port == nil && len(l.d.Ports) > 0 && l.d.Service == "" {
		port = &l.d.Ports[0]
	}
	switch {
	case l.d.AnyPort():
	case port != nil:
		l.Port = portText(*port)
	case l.d.Service != "":
		l.Port = l.d.Service
	}
}

// addressText writes one address, a network, or a range.
func addressText(d bigip.Destination) string {
	if addr, ok := d.Host(); ok {
		return addr.String()
	}
	if !d.Addrs.IsValid() {
		return ""
	}
	if p, ok := d.Addrs.Prefix(); ok {
		return p.String()
	}
	return d.Addrs.String()
}

// ingress fills a row: the BIG-IP's way, the listener, and the way here.
func (j *joiner) ingress(l *line) {
	l.VLAN, l.Return, l.Level = l.in.VLAN, string(l.in.Return), string(l.in.Level)
	l.Value, l.LevelOrigin = l.in.Value, l.in.Origin
	if addr, ok := l.d.Host(); ok {
		l.on, l.elsewhere = j.network.answered(l, routing.FamilyOf(addr))
	}
	l.Before = l.before()
	if l.in.Return == bigip.Scripted {
		l.manual("irule", l.v.Name, l.in.Origin,
			"an iRule decides where its replies go: "+l.in.Value,
			"read the iRule, and do by hand here what it does")
	}
	j.find(l)
	s := l.site
	if s == nil {
		return
	}
	if len(s.domains) > 1 {
		l.manual("overlap", l.addr.String(), l.d.Origin,
			"this address is used in the route domains "+list(s.domains)+
				": a Linux host can have it only once", perDomain)
	}
	j.held(l)
	j.waves(l)
	j.properties(l, s)
	if j.vlan(l, s.owner) {
		judge{j}.way(l, s.link)
	}
}

// end turns what is missing into status, reason and remedy, and adds the row.
func (j *joiner) end(l *line) {
	if l.Status == NotApplicable {
		j.rows = append(j.rows, l.Row)
		return
	}
	slices.SortStableFunc(l.problems, func(a, b problem) int {
		return a.Severity.Rank() - b.Severity.Rank()
	})
	l.Status, l.Present = Ready, j.here.present[l.addr]
	for i, p := range l.problems {
		code := string(p.Code)
		switch {
		case i == 0:
			l.Reason, l.Remedy, l.Status = code, cmp.Or(p.remedy, p.Hint), NeedsInput
			if p.Severity == routing.Error {
				l.Status = Manual
			}
		case code != l.Reason:
			l.Also = appendNew(l.Also, code)
		}
		j.misses.add(p.Finding, l.v.Name)
	}
	for _, f := range l.decisions {
		j.misses.add(f, l.v.Name)
	}
	l.Decided, l.Loses = strings.Join(l.decided, "; "), strings.Join(l.loses, "; ")
	j.cut.take(l, j.here)
	j.rows = append(j.rows, l.Row)
}

// misses are what rows miss, each once, with the virtual servers that miss it.
type misses struct {
	list  []*miss
	index map[routing.Finding]*miss // by the finding without its Origin
}

type miss struct {
	routing.Finding
	virtuals []string
}

func (m *misses) add(f routing.Finding, virtual string) {
	key := f
	key.Origin = ""
	x := m.index[key]
	if x == nil {
		x = &miss{Finding: f}
		m.index[key] = x
		m.list = append(m.list, x)
	}
	// Rows of one virtual server follow each other.
	if n := len(x.virtuals); n == 0 || x.virtuals[n-1] != virtual {
		x.virtuals = append(x.virtuals, virtual)
	}
}

// findings returns what is missing, with the virtual servers' names.
func (m *misses) findings() []routing.Finding {
	var out []routing.Finding
	for _, x := range m.list {
		f := x.Finding
		if len(x.virtuals) > 1 || x.virtuals[0] != f.Subject {
			f.Message += "; for " + routing.Some(x.virtuals, 3)
		}
		out = append(out, f)
	}
	return out
}

// perDomain is what to do about route domains that overlap.
const perDomain = "use a host, network namespace or VRF for each route domain; --only %ID names " +
	"the one that this host serves"

// subject names the row's VLAN in findings.
func (l *line) subject() string { return "VLAN " + cmp.Or(l.VLAN, "(none in the files)") }

// vlan finds the interface of the VLAN. It reports whether the address's way is
// known.
func (j *joiner) vlan(l *line, own owner) bool {
	p := l.place
	if len(p.links) == 1 {
		l.Interface = p.links[0]
	}
	if slices.Contains(p.links, own.link) {
		l.Interface = own.link
	}
	switch addr := l.addr.String(); {
	case p.shared != "":
		l.manual("overlap", l.subject(), p.origin,
			"it has the same subnet as "+p.shared+" in another route domain",
			perDomain)
	case !l.in.Known:
		what := "do not have it"
		if l.VLAN == "" {
			what = "have no VLAN"
		}
		l.needs("vlan-undefined", l.subject(), l.v.Origin, "the files "+what+
			", so migrate does not know the subnet of its clients",
			"give bigip_base.conf too")
	case len(p.prefixes) == 0:
		l.needs("no-self", l.subject(), p.origin,
			"no self IP is on it, so migrate does not know its subnet",
			"give bigip_base.conf of the same BIG-IP, or all partitions")
	case own.foreign:
		l.needs("other-interface", addr, l.d.Origin,
			"this host has it on "+own.link+
				"; requests come in by "+strings.Join(own.among, " or "),
			j.need.address(l.addr, own.among[0], netip.Addr{})+
				", or correct the host's addresses")
	case len(p.links) == 0 && (own.link == "" || own.alone || p.contains(l.addr)):
		l.needs("vlan-not-here", l.subject(), p.origin,
			"no interface of this host has an address in its subnet "+list(p.prefixes),
			"give the host an interface with an address in it")
	case len(p.links) > 1 && l.Interface == "":
		l.needs("vlan-ambiguous", l.subject(), p.origin,
			"several interfaces are in its subnet: "+strings.Join(p.links, ", "),
			"decide: "+strings.Join(j.decisions(l.addr, p.links), " or "))
	case own.link == "":
		l.needs("several-vlans", addr, l.d.Origin,
			"it is in no subnet of the VLANs that it serves, and all its replies "+
				"leave by one path",
			"decide: "+strings.Join(j.decisions(l.addr, own.among), " or "))
		l.needs("other-vlan", addr, l.d.Origin, "replies to clients of all VLANs will "+
			"leave by the one interface that it gets",
			"if no client comes in by the other VLANs: --return IF=strict for that "+
				"interface")
	default:
		return true
	}
	return false
}

// decisions asks which of the links an address is on. It returns the flags.
func (j *joiner) decisions(addr netip.Addr, links []string) (flags []string) {
	for _, link := range links {
		flags = append(flags, routing.Flag("address", addr.String()+"="+link))
		j.need.ask(question{addr: addr, link: link, who: link,
			when: "requests to it come in by %s"})
	}
	return flags
}

// list writes values with commas between them.
func list[T any](values []T) string {
	var parts []string
	for _, v := range values {
		parts = append(parts, fmt.Sprint(v))
	}
	return strings.Join(parts, ", ")
}

func appendNew[T comparable](list []T, x T) []T {
	if slices.Contains(list, x) {
		return list
	}
	return append(list, x)
}
