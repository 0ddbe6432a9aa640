// Package doctor looks for further faults of a host, for `lasthop check`: in
// rules and settings as routing.Examine does, and on the machine itself in
// nftables, other programs' settings, NGINX's processes and the open sockets.
// It changes nothing, and reports nothing about what it may not read.
package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"lasthop/internal/settings"
	"lasthop/internal/survey"
	"lasthop/nginxconf"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/host"
)

// Options say where to look in addition to the survey.
type Options struct {
	Kernel *host.Kernel                  // nil for a captured host
	Line   settings.Line                 // of the present command
	Root   string                        // other programs' settings are below it
	Status func() (report.Status, error) // asks the daemon of the namespace
}

type doctor struct {
	Options
	survey   *survey.Survey
	findings []routing.Finding
	unseen   []string        // what may not be read
	awaited  map[string]bool // origins of listens that NGINX has not loaded yet
}

// Examine returns all findings of check, sorted, and what it was not allowed to
// read, each with the reason.
func Examine(s *survey.Survey, checks []report.Checked, o Options) ([]routing.Finding, []string) {
	o.Status = sync.OnceValues(o.Status) // several findings need it
	d := doctor{Options: o, survey: s, awaited: map[string]bool{}}
	plan := s.Decision.Plan
	d.find(routing.Examine(s.Inputs.Host, plan, s.Inputs.Binds, s.Inputs.Policy)...)
	if s.Place.Offline {
		s.ReadBackground()
		d.translations(s.Background.DNATs)
	} else { // only the machine itself can tell
		dnats, unseen := survey.DNATs(d.Kernel)
		d.translations(dnats)
		for _, u := range unseen {
			d.cannotSee(u.What, u.Err)
		}
		d.purges()
		d.nginx()
		d.halfOpen()
		d.overTime()
	}
	d.asymmetries(checks)
	d.missing()
	routing.SortFindings(d.findings)
	return d.findings, d.unseen
}

func (d *doctor) find(f ...routing.Finding) { d.findings = append(d.findings, f...) }

func (d *doctor) cannotSee(what string, err error) {
	d.unseen = append(d.unseen, fmt.Sprintf("%s (%v)", what, err))
}

// asymmetries turns bad verdicts into findings, one for each address. An
// unresolved listener has a finding that explains it; a listener that NGINX has
// not loaded yet gets no requests.
func (d *doctor) asymmetries(checks []report.Checked) {
	seen := map[netip.Addr]bool{}
	loaded := func(origin string) bool { return !d.awaited[origin] }
	for _, c := range checks {
		awaited := len(c.Origins) > 0 && !slices.ContainsFunc(c.Origins, loaded)
		bad := c.Verdict.Bad() && c.Verdict != report.NotKnown &&
			c.Status != routing.Unresolved
		if !bad || seen[c.Addr] || awaited {
			continue
		}
		seen[c.Addr] = true
		d.find(d.asymmetry(c))
	}
}

func (d *doctor) asymmetry(c report.Checked) routing.Finding {
	f := routing.Error.Finding("asymmetric", c.Addr.String(), "requests to %s come in by "+
		"%s, and replies to clients behind it leave by %s", c.Addr, c.Want, c.Now)
	switch {
	case len(c.Wrong) > 0:
		f = d.wrongClasses(c)
	case c.Verdict == report.NotHereWrong:
		f = routing.Warning.Finding("not-armed", c.Addr.String(), "this host does not "+
			"have %s now; once it has, requests come in by %s, and replies to "+
			"clients behind it leave by %s", c.Addr, c.Want, c.Now)
	}
	f.Hint = cmp.Or(f.Hint, "see why: "+d.Line.Explain(c.Question))
	if !d.survey.Decision.Diff.Empty() {
		f.Hint = Remedy(d.Line, d.survey.Decision.Diff, d.findings)
	}
	if len(c.Origins) > 0 {
		f.Origin = c.Origins[0]
	}
	return f
}

// wrongClasses names the clients that are answered wrongly while those behind
// the gateways are answered right.
func (d *doctor) wrongClasses(c report.Checked) routing.Finding {
	var clients []string
	direct := ""
	for _, w := range c.Wrong {
		who := w.Client.String()
		if who == w.Addr.String() {
			who += fmt.Sprintf(" (%s)", w.Class)
		}
		clients = append(clients, fmt.Sprintf("to %s by %s, not by %s", who, w.Now, w.Want))
		if to, ok := strings.CutPrefix(w.Of, "to "); ok && w.Class == routing.ClassRule {
			direct = "; to keep the path of that rule: --direct " + to
		}
	}
	q := c.Question
	q.Dst = c.Wrong[0].Addr
	level, code := routing.Error, "asymmetric"
	if c.Verdict == report.NotHereWrong {
		level, code = routing.Warning, "not-armed"
	}
	return level.Finding(routing.Code(code), c.Addr.String(), "replies of %s leave by the "+
		"wrong path: %s", c.Addr, routing.Some(clients, 4)).
		Advise("see why: %s%s", d.Line.Explain(q), direct)
}

// missing names what lasthop installed and is gone, or was changed.
func (d *doctor) missing() {
	ops := d.survey.Decision.Diff.Additions().Ops()
	if slices.ContainsFunc(d.findings,
		func(f routing.Finding) bool { return f.Code == "stale-table" }) {
		ops = slices.DeleteFunc(ops, func(o routing.Op) bool { return o.Route != nil })
	}
	if len(ops) == 0 || d.survey.Decision.Owned.Empty() || len(d.awaited) > 0 {
		return // or nothing was ever installed, or NGINX has not loaded it yet
	}
	var lines []string
	for _, op := range ops {
		lines = append(lines, op.String())
	}
	d.find(routing.Warning.Finding("not-installed", "lasthop", "the host has changed since "+
		"the last apply, or another program has deleted what lasthop installed; "+
		"missing: %s", routing.Some(lines, 3)).
		Advise("%s", Remedy(d.Line, d.survey.Decision.Diff, d.findings)))
}

// Remedy returns the command that carries out the plan. If that removes
// something while NGINX has not yet loaded what is on disk, the reload or
// restart comes first: until then NGINX listens on what it has loaded, and
// apply refuses.
func Remedy(l settings.Line, d routing.Diff, findings []routing.Finding) string {
	i := slices.IndexFunc(findings,
		func(f routing.Finding) bool { return f.Code == "not-loaded" })
	remedy := l.Apply("")
	if l.Served || i < 0 || len(d.DelRules) == 0 {
		return remedy
	}
	switch first := findings[i].Hint; {
	case strings.HasPrefix(first, "nginx "):
		remedy = first + " && " + remedy
	case strings.HasPrefix(first, survey.Restart):
		remedy = survey.Restart + ", then run: " + remedy
	}
	return remedy
}

func (d *doctor) translations(dnats []routing.DNAT) {
	s := d.survey
	d.find(routing.Translated(s.Inputs, s.Decision.Plan, dnats)...)
}

// halfOpen names the addresses with waiting clients whose SYN-ACK was sent
// again: it may have been lost on its way, or the client is gone.
func (d *doctor) halfOpen() {
	waits := map[netip.AddrPort]map[netip.Addr]int{}
	for _, h := range d.survey.HalfOpen {
		if h.Repeats > 0 {
			if waits[h.Local] == nil {
				waits[h.Local] = map[netip.Addr]int{}
			}
			waits[h.Local][h.Remote.Addr()]++
		}
	}
	for _, o := range d.survey.Decision.Plan.Outcomes {
		for port := int(o.Ports.First); port <= int(o.Ports.Last); port++ {
			at := netip.AddrPortFrom(o.Addr, uint16(port))
			if clients := waits[at]; len(clients) > 0 && o.Transport == routing.TCP {
				delete(waits, at) // said once
				d.waiting(at, clients)
			}
		}
	}
}

// waiting describes how many connections of which clients wait.
func (d *doctor) waiting(at netip.AddrPort, clients map[netip.Addr]int) {
	var names []string
	n := 0
	for _, c := range slices.SortedFunc(maps.Keys(clients), netip.Addr.Compare) {
		names, n = append(names, c.String()), n+clients[c]
	}
	if n < 3 {
		return
	}
	q := routing.Query{Src: at.Addr(), Dst: netip.MustParseAddr(names[0])}
	d.find(routing.Warning.Finding("half-open", at.String(), "the kernel repeats the "+
		"SYN-ACK of %d connections to %s, and no client acknowledges one (clients: %s): "+
		"it does not arrive, or the client addresses are "+
		"forged", n, at, routing.Some(names, 2)).
		Advise("see where it goes: %s", d.Line.Explain(q)))
}

// purges looks for programs that delete what lasthop owns.
func (d *doctor) purges() {
	programs := Suspects("/proc", host.NamespacePath(d.Line.NetNS))
	if f, ok := Networkd(d.Root, programs); ok {
		d.find(f)
	}
	found, unseen := networkManager(d.Root, programs)
	d.find(found...)
	if unseen != nil {
		d.cannotSee("NetworkManager's profiles", unseen)
	}
}

// nginx examines the masters that run: what they have loaded, and their
// sockets.
func (d *doctor) nginx() {
	if len(d.survey.NGINX.Configs) == 0 {
		return
	}
	l, err := Loads(d.survey, d.Options)
	_, absent := d.Status() // a daemon keeps what has a socket
	if absent != nil && len(l.Pending) == 0 && len(d.survey.Decision.Diff.DelRules) > 0 {
		l.lose(d.survey, d.Kernel)
	}
	d.find(slices.Concat(l.Findings, l.Losing)...)
	if err == nil {
		err = d.sockets(l)
	}
	if err != nil {
		d.cannotSee("NGINX's processes", err)
	}
}

// overTime takes over what the daemon alone sees, since it shows over a time:
// whether the mode last-hop forgets connections, and whether NGINX Plus counts
// the loads that the daemon saw.
func (d *doctor) overTime() {
	var codes []routing.Code
	if len(d.survey.Decision.Plan.State.Filters) > 0 {
		codes = append(codes, "map-full")
	}
	if d.survey.Settings.PlusAPI != "" {
		codes = append(codes, "generation-differs", "plus-api")
	}
	if len(codes) == 0 {
		return
	}
	s, err := d.Status()
	if err != nil {
		return // no daemon has observed it
	}
	for _, f := range s.Plan.Findings {
		if slices.Contains(codes, f.Code) {
			d.find(f)
		}
	}
}

// Loaded returns which configurations NGINX runs with as they are on disk.
type Loaded struct {
	Masters  []nginxconf.Master
	Serving  []survey.Config   // a master runs with it
	Pending  []survey.Config   // no master has loaded it yet
	Findings []routing.Finding // not-loaded, one for each that is pending
	Losing   []routing.Finding // not-loaded: NGINX listens where the plan removes the path
}

// Loads finds the masters of a namespace and compares what they have loaded
// with the files that the survey has read. It asks the daemon, which knows.
func Loads(s *survey.Survey, o Options) (Loaded, error) {
	masters, _, err := survey.Masters(o.Line.NetNS, s.Settings.Confs, nil)
	if err != nil {
		return Loaded{}, err
	}
	l := Loaded{Masters: masters}
	for _, c := range s.NGINX.Configs {
		if f, late := notLoaded(c, l.Masters, o.Status); late {
			l.Findings = append(l.Findings, l.advise(f, c, o.Kernel))
			l.Pending = append(l.Pending, c)
		} else if slices.ContainsFunc(l.Masters, c.Runs) {
			l.Serving = append(l.Serving, c)
		}
	}
	return l, nil
}

// timeOfDay is precise enough to show what came first.
const timeOfDay = time.DateTime + ".00"

// notLoaded reports whether the configuration on disk differs from what its
// masters have loaded. A daemon that follows them knows; without one, a change
// after their workers were started is not loaded.
func notLoaded(c survey.Config, masters []nginxconf.Master,
	status func() (report.Status, error)) (f routing.Finding, late bool) {
	if known, ok := daemonSays(c, status); ok {
		return known, known.Code != ""
	}
	for _, m := range masters {
		if !c.Runs(m) {
			continue
		}
		if e, ok := survey.EditedSince(c.Config, m.PID); ok {
			return routing.Info.Finding("not-loaded", c.Conf, "%s changed at %s, "+
				"after NGINX %d had loaded its configuration at %s", e.File,
				e.Changed.Format(timeOfDay), m.PID, e.Loaded.Format(timeOfDay)).
				Advise(survey.Reload).At(e.File), true
		}
	}
	return f, false
}

// daemonSays asks the daemon whether a configuration is loaded: its finding, or
// none. ok is false if no daemon follows it.
func daemonSays(c survey.Config,
	status func() (report.Status, error)) (f routing.Finding, ok bool) {
	s, err := status()
	if err != nil {
		return f, false
	}
	follows := slices.ContainsFunc(s.Masters,
		func(m report.Master) bool { return m.Conf == c.Conf && m.PID != 0 })
	i := slices.IndexFunc(s.Plan.Findings, func(f routing.Finding) bool {
		return f.Code == "not-loaded" && f.Subject == c.Conf
	})
	if i >= 0 {
		f = s.Plan.Findings[i]
	}
	return f, follows
}
