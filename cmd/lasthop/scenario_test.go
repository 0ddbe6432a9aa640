package main_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"lasthop/internal/settings"
	"lasthop/internal/survey"
	"lasthop/routing"
	"lasthop/routing/host"
	"lasthop/routing/sim"
)

// The scenarios of testdata/scenario run twice: against the planner with a
// simulated host, and against a real network namespace made by the same lines.
// A scenario has the sections
//
//	nginx.conf   what NGINX listens on
//	host         the host, as `ip` commands (package sim)
//	flags        one command line flag a line; `pure` keeps the scenario
//	             away from the kernel, for what it cannot make
//	get          what replies do before and after, one query a line;
//	             written by hand, never by -update
//	want.state   the state wanted, as commands
//	want.diff    the changes, where something of ours is there from before
//	want.report  one line per listener and finding
//
// A line of get is `before|after SRC -> DST [oif LINK] [mark MARK] = ANSWER [|
// ANSWER]`. SRC may be - for none. An ANSWER is `dev LINK [via ADDR] [table
// N]`, local, unreachable, prohibit, blackhole or none. Several are the next
// hops of a multipath route.
type scenario struct {
	path    string
	archive *txtar.Archive
	sim     *sim.Sim
	inputs  routing.Inputs // except for the host
	pure    bool
	gets    []get
}

// get is one line of the section get.
type get struct {
	line  string
	after bool
	query routing.Query
	want  []routing.Way // more than one for a multipath route; Table 0 is any
}

// update is shared with the other tests of this directory, whichever defines it
// first.
var update = func() *flag.Flag {
	if flag.Lookup("update") == nil {
		flag.Bool("update", false, "rewrite what the tests of testdata want")
	}
	return flag.Lookup("update")
}()

func TestScenarios(t *testing.T) {
	t.Parallel()
	eachScenario(t, func(t *testing.T, s *scenario) {
		s.testPure(t)
		if !s.pure && !t.Failed() {
			t.Run("kernel", s.testKernel)
		}
	})
}

// eachScenario runs a test for every scenario, and returns how many there are.
func eachScenario(t *testing.T, f func(*testing.T, *scenario)) int {
	t.Helper()
	paths, err := filepath.Glob("../../testdata/scenario/*.txtar")
	if err != nil || len(paths) < 40 {
		t.Fatalf("%d scenarios, %v, want at least 40", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"),
			func(t *testing.T) { f(t, readScenario(t, path)) })
	}
	return len(paths)
}

func (s *scenario) section(name string) (string, bool) {
	for _, f := range s.archive.Files {
		if f.Name == name {
			return string(f.Data), true
		}
	}
	return "", false
}

func readScenario(t *testing.T, path string) *scenario {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &scenario{path: path, archive: archive}
	if len(strings.TrimSpace(string(archive.Comment))) == 0 {
		t.Fatal("the comment must name the rule or fact that the scenario pins")
	}
	lines, _ := s.section("host")
	if s.sim, err = sim.Parse(lines); err != nil {
		t.Fatal(err)
	}
	flags, _ := s.section("flags")
	var decided settings.Flags
	for line := range strings.Lines(flags) {
		if line = strings.TrimSpace(line); line == "pure" {
			s.pure = true
		} else if err := addFlag(&decided, line); err != nil {
			t.Fatalf("flags: %s: %v", line, err)
		}
	}
	set, err := settings.Load(decided)
	if err != nil {
		t.Fatal(err)
	}
	conf, _ := s.section("nginx.conf")
	s.inputs = loadConf(t, conf).Inputs(routing.Host{}, set)
	gets, _ := s.section("get")
	for line := range strings.Lines(gets) {
		g, err := parseGet(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("get: %s: %v", line, err)
		}
		s.gets = append(s.gets, g)
	}
	if len(s.gets) == 0 {
		t.Fatal("no get lines: a scenario without them asserts only what the code says")
	}
	return s
}

// loadConf writes the configuration to a file and joins it as every command
// does.
func loadConf(t *testing.T, conf string) survey.NGINX {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nginx.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := survey.Source{Conf: path}.Load()
	if err != nil {
		t.Fatal(err)
	}
	var n survey.NGINX
	n.Add(c)
	return n
}

// addFlag adds one line that is a flag.
func addFlag(f *settings.Flags, line string) error {
	name, value, _ := strings.Cut(line, " ")
	list := map[string]*[]string{"--gateway": &f.Gateways, "--return": &f.Returns,
		"--address": &f.Addresses, "--direct": &f.Direct, "--fail-closed": &f.FailClosed}[name]
	if list == nil {
		return errors.New("unknown flag")
	}
	*list = append(*list, value)
	return nil
}

func parseGet(line string) (get, error) {
	g := get{line: line}
	question, answer, ok := strings.Cut(line, " = ")
	words := strings.Fields(question)
	if !ok || len(words) < 4 || words[2] != "->" || words[0] != "before" &&
		words[0] != "after" {
		return g, errors.New("want `before|after SRC -> DST = ANSWER`")
	}
	g.after = words[0] == "after"
	var err error
	if words[1] != "-" {
		if g.query.Src, err = netip.ParseAddr(words[1]); err != nil {
			return g, err
		}
	}
	if g.query.Dst, err = netip.ParseAddr(words[3]); err != nil {
		return g, err
	}
	for rest := words[4:]; len(rest) > 0; rest = rest[2:] {
		switch {
		case len(rest) == 1:
			return g, fmt.Errorf("nothing after %s", rest[0])
		case rest[0] == "oif":
			g.query.OIF = rest[1]
		case rest[0] == "mark":
			_, err = fmt.Sscanf(rest[1], "0x%x", &g.query.Mark)
		default:
			return g, fmt.Errorf("unknown word %s", rest[0])
		}
	}
	for text := range strings.SplitSeq(answer, " | ") {
		way, e := parseWay(strings.Fields(text))
		err = errors.Join(err, e)
		g.want = append(g.want, way)
	}
	return g, err
}

// endings are the answers that are one word.
var endings = map[string]routing.RouteType{"local": routing.Local,
	"unreachable": routing.Unreachable,
	"prohibit":    routing.Prohibit, "blackhole": routing.Blackhole, "none": 0}

func parseWay(words []string) (routing.Way, error) {
	if len(words) == 1 {
		t, ok := endings[words[0]]
		if !ok {
			return routing.Way{}, fmt.Errorf("unknown answer %s", words[0])
		}
		return routing.Way{Type: t}, nil
	}
	w := routing.Way{Type: routing.Unicast}
	for ; len(words) > 1; words = words[2:] {
		var err error
		switch words[0] {
		case "dev":
			w.Link = words[1]
		case "via":
			w.Via, err = netip.ParseAddr(words[1])
		case "table":
			_, err = fmt.Sscan(words[1], &w.Table)
		default:
			err = fmt.Errorf("unknown word %s", words[0])
		}
		if err != nil {
			return w, err
		}
	}
	return w, nil
}

// sameWay reports whether an answer is the wanted one.
func sameWay(want, got routing.Way) bool {
	if want.Type != routing.Unicast {
		return want.Type == got.Type
	}
	return got.Type == routing.Unicast && want.Link == got.Link && want.Via == got.Via &&
		(want.Table == 0 || want.Table == got.Table)
}

// checkTrace compares all ends of a pure lookup.
func (g get) checkTrace(t *testing.T, trace routing.Trace) {
	t.Helper()
	got := trace.Ends
	if len(got) == 0 {
		got = []routing.Way{{}}
	}
	if len(got) != len(g.want) || slices.ContainsFunc(g.want, func(w routing.Way) bool {
		return !slices.ContainsFunc(got, func(x routing.Way) bool { return sameWay(w, x) })
	}) {
		t.Errorf("%s\nLookup says %v\n%s", g.line, got, steps(trace))
	}
}

func steps(trace routing.Trace) string {
	var b strings.Builder
	for _, s := range trace.Steps {
		fmt.Fprintf(&b, "  %s -> %s, %s\n", s.Rule, s.Effect, s.Why(trace.Query))
	}
	return b.String()
}

// testPure plans on the simulated host, looks the get lines up, and compares
// the wants.
func (s *scenario) testPure(t *testing.T) {
	h, numbers := s.sim.Host, s.inputs.Policy.Numbers
	d := s.decide(t, h)
	plan := d.Plan
	after := routing.With(routing.Without(h, numbers), plan.State)
	for _, g := range s.gets {
		if g.after {
			g.checkTrace(t, routing.Lookup(after, g.query))
		} else {
			g.checkTrace(t, routing.Lookup(h, g.query))
		}
	}
	again := s.decide(t, after).Plan.State
	if d := cmp.Diff(plan.State.String(), again.String()); d != "" {
		t.Errorf("the second sync wants something else: -first +second\n%s", d)
	}
	wants := map[string]string{"want.state": plan.State.String(),
		"want.report": reportLines(plan)}
	if !d.Owned.Empty() {
		var diff strings.Builder
		for _, op := range d.Diff.Ops() {
			fmt.Fprintln(&diff, op)
		}
		wants["want.diff"] = diff.String()
	}
	s.compare(t, wants)
}

func (s *scenario) decide(t *testing.T, h routing.Host) routing.Decision {
	t.Helper()
	d, err := routing.Decide(s.on(h))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// on is what a decision about the host depends on.
func (s *scenario) on(h routing.Host) routing.Inputs {
	in := s.inputs
	in.Host = h
	return in
}

// reportLines prints a plan's outcomes and findings, a line each.
func reportLines(p routing.Plan) string {
	var b strings.Builder
	for _, o := range p.Outcomes {
		ports := fmt.Sprint(o.Ports.First)
		if o.Ports.Last != o.Ports.First {
			ports += fmt.Sprint("-", o.Ports.Last)
		}
		fmt.Fprintf(&b, "%s %s/%s %s %s", o.Addr, ports, o.Transport,
			orDash(o.Link), o.Status)
		if o.Reason != "" {
			fmt.Fprintf(&b, " (%s)", o.Reason)
		}
		fmt.Fprintf(&b, ": %s -> %s\n", o.Before, o.After)
	}
	for _, f := range p.Findings {
		fmt.Fprintf(&b, "%s %s %s\n", f.Severity, f.Code, f.Subject)
	}
	return b.String()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// compare compares the want sections, or with -update rewrites them and nothing
// else.
func (s *scenario) compare(t *testing.T, wants map[string]string) {
	t.Helper()
	// what fails the get lines is not written down
	if update.Value.String() == "true" && !t.Failed() {
		s.archive.Files = slices.DeleteFunc(s.archive.Files, func(f txtar.File) bool {
			return strings.HasPrefix(f.Name, "want.")
		})
		for _, name := range slices.Sorted(maps.Keys(wants)) {
			s.archive.Files = append(s.archive.Files,
				txtar.File{Name: name, Data: []byte(wants[name])})
		}
		if err := os.WriteFile(s.path, txtar.Format(s.archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, got := range wants {
		want, ok := s.section(name)
		if !ok {
			t.Errorf("no section %s: run with -update and read what it writes", name)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: -want +got\n%s", name, d)
		}
	}
	for _, f := range s.archive.Files {
		if _, ok := wants[f.Name]; !ok && strings.HasPrefix(f.Name, "want.") {
			t.Errorf("section %s is not compared with anything", f.Name)
		}
	}
}

// testKernel makes the host in a namespace, checks that it is the simulated
// one, applies the plan, asks the kernel, and clears again.
func (s *scenario) testKernel(t *testing.T) {
	ns := newNamespace(t)
	ns.build(t, s.sim)
	k := ns.kernel
	before := ns.read(t, s.sim)
	if d := compareHosts(s.sim.Host, before); d != "" {
		t.Fatalf("the simulation is not what the kernel has: -sim +kernel\n%s", d)
	}
	numbers := s.inputs.Policy.Numbers
	foreign := foreignState(before, numbers)
	d := s.decide(t, before)
	plan := d.Plan
	if want, _ := s.section("want.state"); plan.State.String() != want {
		t.Errorf("on the kernel's host the plan differs: -want +got\n%s",
			cmp.Diff(want, plan.State.String()))
	}
	s.askKernel(t, k, before, false)
	k.GroupsFile = filepath.Join(t.TempDir(), "groups")
	var groups []byte
	for _, g := range d.Grouped() {
		groups = fmt.Appendln(groups, g)
	}
	if err := os.WriteFile(k.GroupsFile, groups, 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, k, d.Diff)
	after := ns.read(t, s.sim)
	if got := routing.Owned(after, numbers); got.String() != plan.State.String() {
		t.Errorf("read back: -want +got\n%s", cmp.Diff(plan.State.String(), got.String()))
	}
	if d := s.decide(t, after).Diff; !d.Empty() {
		t.Errorf("a second sync is not empty: %v", d.Ops())
	}
	if d := cmp.Diff(foreign, foreignState(after, numbers)); d != "" {
		t.Errorf("apply changed what is not ours: -before +after\n%s", d)
	}
	s.askKernel(t, k, after, true)
	write(t, k, routing.Compare(routing.Owned(after, numbers), routing.State{}))
	cleared := ns.read(t, s.sim)
	if left := routing.Owned(cleared, numbers).String(); left != "" {
		t.Errorf("clear left\n%s", left)
	}
	if d := cmp.Diff(foreign, foreignState(cleared, numbers)); d != "" {
		t.Errorf("clear changed what is not ours: -before +after\n%s", d)
	}
}

func write(t *testing.T, k *host.Kernel, d routing.Diff) {
	t.Helper()
	if _, err := k.Write(d); err != nil {
		t.Fatal(err)
	}
}

// askKernel compares the get lines with the kernel's own answers. IPv4 refuses
// sources that are not here.
func (s *scenario) askKernel(t *testing.T, k *host.Kernel, h routing.Host, after bool) {
	t.Helper()
	for _, g := range s.gets {
		if g.after != after {
			continue
		}
		if boundIPv6(g.query) {
			continue
		}
		way, err := kernelWay(k, g.query)
		if absent(h, g.query.Src) {
			if way != (routing.Way{}) || err != nil {
				t.Errorf("%s\nthe kernel says %v, %v for a source that is not here",
					g.line, way, err)
			}
			continue
		}
		if err != nil || !slices.ContainsFunc(g.want,
			func(w routing.Way) bool { return sameWay(w, way) }) {
			t.Errorf("%s\nthe kernel says %v, %v", g.line, way, err)
		}
	}
}

// absent reports whether IPv4 refuses to look the source up.
func absent(h routing.Host, src netip.Addr) bool {
	return src.Is4() && !routing.Present(h)(src)
}

// boundIPv6 reports whether the kernel cannot be asked: for IPv6 with a source,
// `route get` treats oif as a preference, and a socket bound to the device
// treats it as a must (RT6_LOOKUP_F_IFACE in ip6_route_output_flags_noref).
func boundIPv6(q routing.Query) bool { return q.OIF != "" && q.Dst.Is6() && q.Src.IsValid() }

func kernelWay(k *host.Kernel, q routing.Query) (routing.Way, error) {
	ways, err := k.Ask([]routing.Query{q})
	if err != nil {
		return routing.Way{}, err
	}
	return ways[0], nil
}

// foreignState prints all that is not lasthop's, without volatile flags.
func foreignState(h routing.Host, n routing.Numbers) string {
	rest := routing.Without(h, n)
	s := routing.State{Routes: rest.Routes, Rules: rest.Rules}
	for _, l := range rest.Links {
		s.Groups = append(s.Groups, routing.LinkGroup{Link: l.Name, Group: l.Group})
	}
	return s.String()
}
