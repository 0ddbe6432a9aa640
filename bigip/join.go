package bigip

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"lasthop/routing"
)

// Here is the host that takes the BIG-IP's place.
type Here struct {
	Host      routing.Host
	Listeners []routing.Listener // NGINX's
	// Build's for these and Wanted together, so that it has an outcome for
	// each address of a virtual server
	Plan   routing.Plan
	Policy routing.Policy
}

// Migration is what becomes of a BIG-IP's virtual servers on a host.
type Migration struct {
	Rows []Row
	// a warning is what a row needs, an error what nobody but a person can
	// decide; sorted
	Findings []routing.Finding
	Flags    []string // for lasthop; ADDR stands where only a person knows the address
	Settings string   // the same as lasthop.yaml, with what was decided before
	Steps    []Step   // the cut-over, in order
}

// The statuses of a Row.
const (
	Ready         = "ready"          // replies will leave the way their requests come in
	NeedsInput    = "needs-input"    // Remedy says what is missing
	Manual        = "manual"         // somebody must read, and decide
	NotApplicable = "not-applicable" // nothing here replies to its clients
)

// Row is one destination of a virtual server and one VLAN that clients come in
// by: what the BIG-IP did, and what happens here. It can be printed as it is;
// what is absent is "".
type Row struct {
	Virtual, Origin string // its name and file:line
	Destination     string // as written
	// "10.0.0.1", a network or a range; "443", "8000-8005", "any"
	Address, Port, Protocol   string
	VLAN                      string
	Return                    string // the BIG-IP's way: a Return
	Level, Value, LevelOrigin string // what decided that
	// NGINX's listener: "exact", "wildcard", "other-port",
	// "other-transport", "none"
	Match                  string
	Listen, ListenOrigin   string
	Interface              string // that of the VLAN here
	Gateway, GatewaySource string
	Present                bool // whether the address is on the host
	Status, Reason         string
	Remedy                 string
	Also                   []string // codes of what else is missing
	Before, After          string   // the way of replies: the BIG-IP's, and this host's
}

// Step is one step of the cut-over.
type Step struct {
	Phase string // "prepare", "cut-over", "roll-back"
	// "nginx.conf", "lasthop.yaml", "host", "big-ip", or "" for something
	// to find out
	Where string
	Title string   // what to do
	Lines []string // exactly this: commands, or lines of the file
	Notes []string
}

// unserved says whether nothing replies to clients of a virtual server, with a
// row's reason and what the BIG-IP did.
func (v Virtual) unserved() (r Row, ok bool) {
	switch {
	case v.Disabled != "":
		r.Reason, r.Before = "disabled", "disabled by "+v.Disabled
	case v.Type == IPForward:
		r.Reason, r.Before = "forwarding", "routes packets on"
	case v.Type == L2Forward:
		r.Reason, r.Before = "forwarding", "forwards frames"
	case v.Type == Reject:
		r.Reason, r.Before = "reject", "rejects its clients"
	case v.Type == Internal:
		r.Reason, r.Before = "internal", "serves other virtual servers"
	case v.Type == DHCPRelay:
		r.Reason, r.Before = "dhcp-relay", "relays DHCP"
	}
	return r, r.Reason != ""
}

// Context is that of the listeners of Wanted.
const Context = "big-ip"

// Wanted returns a listener for each address that virtual servers serve, so
// that a plan says which way it has.
func Wanted(c Config) []routing.Listener {
	seen := map[netip.Addr]bool{}
	var out []routing.Listener
	for _, v := range c.Virtuals {
		_, unserved := v.unserved()
		for _, d := range v.Destinations {
			addr, ok := d.Host()
			if !ok || unserved || seen[addr] || addr.IsUnspecified() {
				continue
			}
			seen[addr] = true
			out = append(out, routing.Listener{Addr: addr,
				Ports:     routing.PortRange{First: 1, Last: 65535},
				Transport: routing.TCP, Context: Context,
				Listen: d.Text, Origins: []string{d.Origin}})
		}
	}
	return out
}

// Join says for each virtual server what takes its place here, and what is
// missing for that.
func Join(c Config, here Here) Migration {
	j := &joiner{config: c, here: here, outcomes: map[netip.Addr]routing.Outcome{},
		domains: map[netip.Addr][]int{}, used: make([]bool, len(here.Listeners)),
		listeners: map[netip.Addr][]int{}, present: map[netip.Addr]bool{},
		groups: map[groupKey]int{}, moving: map[netip.Addr]int{},
		staying: map[string]bool{}, noARP: map[string]bool{}, names: map[served][]string{},
		need: newNeeds(here.Policy)}
	for i, l := range here.Listeners {
		j.listeners[l.Addr] = append(j.listeners[l.Addr], i)
	}
	for _, a := range here.Host.Addrs {
		j.present[a.Prefix.Addr()] = true
	}
	for _, a := range c.Addresses {
		j.noARP[a.Name] = a.NoARP
		if a.Addrs.From() == a.Addrs.To() {
			at := served{a.Addrs.From(), a.Domain}
			j.names[at] = append(j.names[at], a.Name)
		}
	}
	for _, o := range here.Plan.Outcomes {
		if _, ok := j.outcomes[o.Addr]; !ok {
			j.outcomes[o.Addr] = o
		}
	}
	for _, v := range c.Virtuals {
		_, unserved := v.unserved()
		for _, d := range v.Destinations {
			if addr, ok := d.Host(); ok && !unserved &&
				!slices.Contains(j.domains[addr], d.Domain) {
				j.domains[addr] = append(j.domains[addr], d.Domain)
			}
		}
	}
	j.places()
	for _, v := range c.Virtuals {
		j.virtual(v)
	}
	j.general()
	routing.SortFindings(j.findings)
	return Migration{Rows: j.rows, Findings: j.findings, Flags: j.need.flags,
		Settings: j.need.settings(), Steps: j.steps()}
}

// joiner is a Migration in the making.
type joiner struct {
	config    Config
	here      Here
	outcomes  map[netip.Addr]routing.Outcome
	listeners map[netip.Addr][]int // NGINX's, by index
	used      []bool               // of these, those that stand for a virtual server
	present   map[netip.Addr]bool
	domains   map[netip.Addr][]int // route domains in which an address serves
	place     map[string]place     // by VLAN
	rows      []Row
	findings  []routing.Finding
	groups    map[groupKey]int // those of the findings that are about virtual servers
	virtuals  [][]string       // the virtual servers that each finding is about
	need      *needs
	moves     []move
	moving    map[netip.Addr]int
	staying   map[string]bool     // virtual servers, kind and name: a part of them is not ready
	noARP     map[string]bool     // virtual addresses, by name
	names     map[served][]string // of virtual addresses
	fib       *routing.FIB
}

// served is an address in a route domain.
type served struct {
	addr   netip.Addr
	domain int
}

// groupKey is one thing that is missing, for however many.
type groupKey struct {
	code                   routing.Code
	subject, message, hint string
}

// line is a Row in the making.
type line struct {
	Row
	v        Virtual
	d        Destination
	in       Ingress
	place    place
	addr     netip.Addr
	problems []problem
}

// server is the virtual server in a command of tmsh.
func (l *line) server() string { return l.v.Kind + " " + shell(l.v.Name) }

// problem is something that is missing: what the findings say of all that miss
// it, and what mends it for the one.
type problem struct {
	routing.Finding
	remedy string
}

func (l *line) problem(f routing.Finding) { l.problems = append(l.problems, problem{f, f.Hint}) }

// virtual adds the rows of a virtual server.
func (j *joiner) virtual(v Virtual) {
	row := Row{Virtual: v.Name, Origin: v.Origin, Protocol: v.Protocol}
	if r, ok := v.unserved(); ok {
		row.Status, row.Reason, row.Before = NotApplicable, r.Reason, r.Before
		if len(v.Destinations) > 0 {
			row.setDestination(v.Destinations[0], nil)
		}
		j.rows = append(j.rows, row)
		return
	}
	if len(v.Destinations) == 0 {
		l := &line{Row: row, v: v}
		l.problem(routing.Finding{Code: "destination-unknown", Severity: routing.Warning,
			Subject: v.Name, Origin: v.Origin,
			Message: "the files do not say where its clients connect to",
			Hint: "give the file that has it: the " +
				"partition's bigip.conf, or the UCS"})
		j.end(l)
		return
	}
	ins := j.config.Ingresses(v)
	for _, d := range v.Destinations {
		var ports []*routing.PortRange
		for i := range d.Ports {
			ports = append(ports, &d.Ports[i])
		}
		if len(ports) == 0 || d.Service != "" {
			ports = append(ports, nil) // what nobody knows
		}
		for _, port := range ports {
			j.destination(row, v, d, port, ins)
		}
	}
}

// destination adds a row for each VLAN, or one where the files name none.
func (j *joiner) destination(row Row, v Virtual, d Destination, port *routing.PortRange,
	ins []Ingress) {
	row.setDestination(d, port)
	if len(ins) == 0 {
		l := &line{Row: row, v: v, d: d}
		f := routing.Finding{Code: "no-vlan", Severity: routing.Warning, Subject: v.Name,
			Origin:  v.Origin,
			Message: "the files have no VLAN that its clients could come in by",
			Hint: "give bigip_base.conf, or look on the BIG-IP " +
				"whether it served anybody"}
		if v.VLANs.Unclear {
			f.Code, f.Severity = "vlans-unclear", routing.Warning
			f.Message, f.Hint = "it is enabled on a list of VLANs, "+
				"and the list is empty",
				"look on the BIG-IP where it served clients"
		}
		l.problem(f)
		j.listener(l, port)
		j.end(l)
		return
	}
	own := j.owner(d, ins)
	for _, in := range ins {
		l := &line{Row: row, v: v, d: d, in: in, place: j.place[in.VLAN]}
		j.ingress(l, port, own)
		j.end(l)
	}
}

func (r *Row) setDestination(d Destination, port *routing.PortRange) {
	r.Destination, r.Address, r.Port = d.Text, addressText(d), "any"
	if port == nil && len(d.Ports) > 0 && d.Service == "" {
		port = &d.Ports[0]
	}
	switch {
	case d.AnyPort():
	case port != nil && port.First == port.Last:
		r.Port = fmt.Sprint(port.First)
	case port != nil:
		r.Port = fmt.Sprintf("%d-%d", port.First, port.Last)
	case d.Service != "":
		r.Port = d.Service
	}
}

// addressText writes one address, a network, or a range.
func addressText(d Destination) string {
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

// end turns what is missing into status, reason and remedy, and adds the row.
func (j *joiner) end(l *line) {
	if l.v.Damaged {
		l.problem(routing.Finding{Code: "damaged", Severity: routing.Warning,
			Subject: l.v.Name, Origin: l.v.Origin,
			Message: "its stanza was not read whole: settings may be missing",
			Hint:    "take the file from the BIG-IP again"})
	}
	slices.SortStableFunc(l.problems, func(a, b problem) int {
		return rank(a.Severity) - rank(b.Severity)
	})
	l.Status = Ready
	for i, f := range l.problems {
		if i == 0 {
			l.Reason, l.Remedy, l.Status = string(f.Code), f.remedy, NeedsInput
			if f.Severity == routing.Error {
				l.Status = Manual
			}
		} else if !slices.Contains(l.Also, string(f.Code)) && string(f.Code) != l.Reason {
			l.Also = append(l.Also, string(f.Code))
		}
		j.group(f.Finding, l.v.Name)
	}
	if l.Status != Ready {
		j.staying[l.server()] = true
	}
	if l.addr.IsValid() {
		j.move(l)
	}
	j.rows = append(j.rows, l.Row)
}

func rank(s routing.Severity) int {
	if s == routing.Error {
		return 0
	}
	return 1
}

// group adds what is missing to the findings: once, with all for whom it is.
func (j *joiner) group(f routing.Finding, virtual string) {
	key := groupKey{f.Code, f.Subject, f.Message, f.Hint}
	i, ok := j.groups[key]
	if !ok {
		i = len(j.findings)
		j.groups[key] = i
		j.findings, j.virtuals = append(j.findings, f), append(j.virtuals, nil)
	}
	// rows of one follow each other
	if n := len(j.virtuals[i]); n == 0 || j.virtuals[i][n-1] != virtual {
		j.virtuals[i] = append(j.virtuals[i], virtual)
	}
}

// owner finds the link that replies from an address leave by. Where the host
// does not tell it is that of the VLAN whose subnet holds the address, or of
// the VLAN with the BIG-IP's default gateway, or of the only VLAN; "" if
// nothing decides.
func (j *joiner) owner(d Destination, ins []Ingress) owner {
	addr, ok := d.Host()
	if !ok {
		return owner{}
	}
	var all, with []string
	for _, in := range ins {
		for _, link := range j.place[in.VLAN].links {
			all = appendNew(all, link)
		}
	}
	if o := j.outcomes[addr]; o.Link != "" {
		return owner{o.Link, all, len(all) > 0 && !slices.Contains(all, o.Link),
			len(all) == 0}
	}
	for _, holds := range []func(place) bool{
		func(p place) bool { return p.contains(addr) },
		func(p place) bool { return p.hasDefault(routing.FamilyOf(addr)) },
		func(place) bool { return true },
	} {
		with = nil
		for _, in := range ins {
			if p := j.place[in.VLAN]; len(p.links) == 1 && holds(p) &&
				!slices.Contains(with, p.links[0]) {
				with = append(with, p.links[0])
			}
		}
		if len(with) == 1 {
			return owner{link: with[0]}
		}
	}
	return owner{among: with}
}

// owner is the link that replies from an address leave by, or those of which
// one must be chosen.
type owner struct {
	link    string
	among   []string
	foreign bool // link is that of none of the VLANs, which are on among
	alone   bool // none of the VLANs is here
}

// ingress fills a row: the BIG-IP's way, the listener, and the way here.
func (j *joiner) ingress(l *line, port *routing.PortRange, own owner) {
	l.VLAN, l.Return, l.Level, l.Value, l.LevelOrigin = l.in.VLAN, string(l.in.Return),
		string(l.in.Level), l.in.Value, l.in.Origin
	l.Before = j.before(l)
	if l.in.Return == Scripted {
		l.problem(routing.Finding{Code: "irule", Severity: routing.Error, Subject: l.v.Name,
			Origin:  l.in.Origin,
			Message: "an iRule sets the way of its replies by itself: " + l.in.Value,
			Hint:    "read the iRule; what it does must be done by hand here"})
	}
	j.listener(l, port)
	if !l.addr.IsValid() {
		return
	}
	if ids := j.domains[l.addr]; len(ids) > 1 {
		l.problem(routing.Finding{Code: "overlap", Severity: routing.Error,
			Subject: l.addr.String(), Origin: l.d.Origin,
			Message: fmt.Sprintf("this address serves in the route domains %s: one "+
				"Linux host has it once", numbers(ids)),
			Hint: "a host, network namespace or VRF for each route domain"})
	}
	if j.vlan(l, own) {
		j.way(l, own.link)
	}
}

func numbers(ids []int) string {
	var parts []string
	for _, id := range ids {
		parts = append(parts, fmt.Sprint(id))
	}
	return strings.Join(parts, ", ")
}

// vlan finds the interface of the VLAN, and says whether it can be told which
// way the address has.
func (j *joiner) vlan(l *line, own owner) bool {
	p := l.place
	subject := "VLAN " + cmp.Or(l.VLAN, "(none in the files)")
	if len(p.links) == 1 {
		l.Interface = p.links[0]
	}
	if slices.Contains(p.links, own.link) {
		l.Interface = own.link
	}
	switch {
	case p.shared != "":
		l.problem(routing.Finding{Code: "overlap", Severity: routing.Error,
			Subject: subject, Origin: p.origin,
			Message: "its subnet is also that of " + p.shared +
				" in another route domain",
			Hint: "a host, network namespace or VRF for each route domain"})
		return false
	case !l.in.Known:
		l.problem(routing.Finding{Code: "vlan-undefined", Severity: routing.Warning,
			Subject: subject, Origin: l.v.Origin,
			Message: "the files do not have it: nothing says which " +
				"subnet its clients come in by",
			Hint: "give bigip_base.conf too"})
		return false
	case len(p.prefixes) == 0:
		l.problem(routing.Finding{Code: "no-self", Severity: routing.Warning,
			Subject: subject, Origin: p.origin,
			Message: "no self IP is on it: nothing says which subnet it is",
			Hint:    "give bigip_base.conf of the same BIG-IP, or all partitions"})
		return false
	case own.foreign:
		j.need.address(l.addr, own.among[0], netip.Addr{})
		l.problem(routing.Finding{Code: "other-interface", Severity: routing.Warning,
			Subject: l.addr.String(), Origin: l.d.Origin,
			Message: "this host takes it to be on " + own.link +
				"; its clients come in by " + strings.Join(own.among, " or "),
			Hint: fmt.Sprintf("--address %s=%s, or correct the host's addresses",
				l.addr, own.among[0])})
		return false
	case len(p.links) == 0 && (own.link == "" || own.alone || p.contains(l.addr)):
		l.problem(routing.Finding{Code: "vlan-not-here", Severity: routing.Warning,
			Subject: subject, Origin: p.origin,
			Message: "no interface of this host has an address in its subnet " +
				prefixList(p.prefixes),
			Hint: "give the host an interface with an address in it"})
		return false
	case len(p.links) > 1 && l.Interface == "":
		l.problem(routing.Finding{Code: "vlan-ambiguous", Severity: routing.Warning,
			Subject: subject, Origin: p.origin,
			Message: "several interfaces are in its subnet: " +
				strings.Join(p.links, ", "),
			Hint: fmt.Sprintf("decide: --address %s=%s", l.addr, p.links[0])})
		return false
	case own.link == "":
		l.problem(routing.Finding{Code: "several-vlans", Severity: routing.Warning,
			Subject: l.addr.String(), Origin: l.d.Origin,
			Message: "it is in the subnet of none of the VLANs that it serves, and " +
				"its replies have one way only",
			Hint: fmt.Sprintf("decide: --address %s=%s", l.addr,
				strings.Join(own.among, " or ="))})
		return false
	}
	return true
}

func prefixList(list []netip.Prefix) string {
	var parts []string
	for _, p := range list {
		parts = append(parts, p.String())
	}
	return strings.Join(parts, ", ")
}
