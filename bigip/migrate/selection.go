package migrate

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"lasthop/bigip"
	"lasthop/internal/hint"
	"lasthop/routing"
)

// Selection says which virtual servers a run is about: those of a wave, or
// those of the route domain that this host is for. The zero Selection is all.
//
// A pattern is one of these: the name of a virtual server, with * and ? as in
// path.Match ("/Common/web_*"; without a partition it is that of each one); a
// partition or folder with all that is in it ("/Team1/"); an address or prefix
// that a destination is in ("10.1.0.0/16", "10.1.0.0%2/16"); a route domain
// ("%2").
type Selection struct {
	// A virtual server is taken if a pattern of Only matches it (or there
	// is none) and no pattern of Skip does. A route domain counts
	// separately: it takes or leaves destinations, whatever the other
	// patterns say.
	Only, Skip []string
}

// pattern is one of a Selection.
type pattern struct {
	flag   string       // "--only %2"
	name   string       // of virtual servers, or of a folder: "/Team1/"
	prefix netip.Prefix // of destinations; not valid for a name or route domain
	domain int          // a route domain; anyDomain for all
}

const anyDomain = -1

// parsePattern reads a pattern; flag is the one that it was given by.
func parsePattern(flag, text string) (p pattern, err error) {
	p = pattern{flag: flag + " " + text, domain: anyDomain}
	if strings.HasPrefix(text, "/") || text != "" && !strings.ContainsAny(text, "/%:") &&
		!isAddr(text) {
		p.name = text
		_, err = path.Match(text, "")
	} else {
		err = p.parsePlace(text)
	}
	if err != nil {
		return p, hint.New(fmt.Errorf("%s: %w", p.flag, err),
			"it is a name (/Common/web_*), a partition (/Team1/), an address or "+
				"prefix (10.1.0.0/16), or a route domain (%2)")
	}
	return p, nil
}

func isAddr(text string) bool { _, err := netip.ParseAddr(text); return err == nil }

// parsePlace reads ADDR, ADDR/BITS, ADDR%RD, ADDR%RD/BITS and %RD.
func (p *pattern) parsePlace(text string) error {
	wrong := errors.New("not a pattern")
	text, bits, ranged := strings.Cut(text, "/")
	text, domain, inDomain := strings.Cut(text, "%")
	if inDomain {
		n, err := strconv.ParseUint(domain, 10, 16)
		if err != nil {
			return wrong
		}
		p.domain = int(n)
	}
	if text == "" && inDomain && !ranged {
		return nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return wrong
	}
	if !ranged {
		bits = strconv.Itoa(addr.BitLen())
	}
	if p.prefix, err = netip.ParsePrefix(addr.String() + "/" + bits); err != nil {
		return wrong
	}
	return nil
}

// isDomain reports whether the pattern is a route domain.
func (p pattern) isDomain() bool { return p.name == "" && !p.prefix.IsValid() }

// matches reports whether the pattern matches a virtual server.
func (p pattern) matches(v *bigip.Virtual) bool {
	if p.name != "" {
		return p.matchesName(v.Name)
	}
	return slices.ContainsFunc(v.Destinations, func(d bigip.Destination) bool {
		return (p.domain == anyDomain || p.domain == d.Domain) &&
			(!p.prefix.IsValid() || d.Addrs.IsValid() &&
				p.prefix.Contains(d.Addrs.From()) &&
				p.prefix.Contains(d.Addrs.To()))
	})
}

func (p pattern) matchesName(name string) bool {
	matches := func(pattern, name string) bool {
		ok, _ := path.Match(pattern, name) // parsePattern has reported the error
		return ok
	}
	folder, ok := strings.CutSuffix(p.name, "/")
	switch {
	case !strings.HasPrefix(p.name, "/"):
		return matches(p.name, path.Base(name))
	case !ok:
		return matches(p.name, name)
	}
	for i := 1; i < len(name); i++ {
		if name[i] == '/' && matches(folder, name[:i]) {
			return true
		}
	}
	return false
}

// The reasons of what is left out.
const (
	notSelected = "not-selected"
	otherDomain = "route-domain"
)

// LeftOut reports whether --only or --skip leave the row out.
func (r Row) LeftOut() bool { return r.Reason == notSelected || r.Reason == otherDomain }

// selected is a Selection that was applied to a BIG-IP's files.
type selected struct {
	only, skip []pattern
	left       []leftOut // in the order of the files
}

// leftOut is a virtual server, or some of its destinations, that this run is
// not about.
type leftOut struct {
	*bigip.Virtual
	reason, why string
}

// apply returns the files' configuration with the virtual servers that the
// selection takes, and what it leaves out. Virtual servers without replies stay
// as they are. The error names an invalid pattern, or one that matches nothing.
func (s Selection) apply(c bigip.Config) (bigip.Config, *selected, error) {
	x := &selected{}
	for _, of := range []struct {
		flag  string
		texts []string
		to    *[]pattern
	}{{"--only", s.Only, &x.only}, {"--skip", s.Skip, &x.skip}} {
		for _, text := range of.texts {
			p, err := parsePattern(of.flag, text)
			if err == nil {
				err = p.matchesAny(c)
			}
			if err != nil {
				return c, x, err
			}
			*of.to = append(*of.to, p)
		}
	}
	if len(x.only)+len(x.skip) == 0 {
		return c, x, nil
	}
	var kept []bigip.Virtual
	taken := 0
	for i := range c.Virtuals {
		v := &c.Virtuals[i]
		if reason, _ := unserved(v); reason != "" {
			kept = append(kept, *v)
		} else if taking, ok := x.take(v); ok {
			kept = append(kept, taking)
			taken++
		}
	}
	if taken == 0 {
		return c, x, hint.New(errors.New("--only and --skip leave no virtual server "+
			"that clients get replies from"), "migrate without them lists all")
	}
	c.Virtuals = kept
	return c, x, nil
}

// matchesAny returns an error if the pattern matches no virtual server: it is a
// mistake, or the files are the wrong ones.
func (p pattern) matchesAny(c bigip.Config) error {
	domains := map[int]bool{}
	for i := range c.Virtuals {
		if p.matches(&c.Virtuals[i]) {
			return nil
		}
		for _, d := range c.Virtuals[i].Destinations {
			domains[d.Domain] = true
		}
	}
	advice := "migrate without it lists all; names are full: /Common/web"
	if p.isDomain() {
		advice = "they serve in the route domains " +
			list(slices.Sorted(maps.Keys(domains)))
	}
	return hint.New(fmt.Errorf("%s: no virtual server of the files matches", p.flag), advice)
}

// serves reports whether this host is for a route domain.
func (x *selected) serves(domain int) bool {
	is := func(p pattern) bool { return p.isDomain() && p.domain == domain }
	return !slices.ContainsFunc(x.skip, is) && (!slices.ContainsFunc(x.only,
		pattern.isDomain) || slices.ContainsFunc(x.only, is))
}

// Domains returns the configuration without the self IPs and virtual addresses
// of route domains that this host is not for. Join reports what is wrong with
// the selection.
func (s Selection) Domains(c bigip.Config) bigip.Config {
	_, x, _ := s.apply(c)
	c.Selfs = slices.DeleteFunc(slices.Clone(c.Selfs),
		func(self bigip.Self) bool { return !x.serves(self.Domain) })
	c.Addresses = slices.DeleteFunc(slices.Clone(c.Addresses),
		func(a bigip.VirtualAddress) bool { return !x.serves(a.Domain) })
	return c
}

// take returns what this run takes of a virtual server, and keeps what it
// leaves out.
func (x *selected) take(v *bigip.Virtual) (taken bigip.Virtual, ok bool) {
	taken, left := *v, *v
	taken.Destinations, left.Destinations = nil, nil
	for _, d := range v.Destinations {
		if x.serves(d.Domain) {
			taken.Destinations = append(taken.Destinations, d)
		} else {
			left.Destinations = append(left.Destinations, d)
		}
	}
	if len(left.Destinations) > 0 {
		x.left = append(x.left, leftOut{&left, otherDomain,
			"not for this host: " + x.flags(true)})
	}
	if len(taken.Destinations) == 0 && len(left.Destinations) > 0 {
		return taken, false
	}
	why := ""
	is := func(p pattern) bool { return !p.isDomain() && p.matches(&taken) }
	if i := slices.IndexFunc(x.skip, is); i >= 0 {
		why = "left out: " + x.skip[i].flag
	} else if slices.ContainsFunc(x.only, func(p pattern) bool { return !p.isDomain() }) &&
		!slices.ContainsFunc(x.only, is) {
		why = "left out: not in " + x.flags(false)
	}
	if why != "" {
		x.left = append(x.left, leftOut{&taken, notSelected, why})
	}
	return taken, why == ""
}

// flags returns those for route domains, or those for virtual servers.
func (x *selected) flags(domains bool) string {
	all := x.only
	if domains {
		all = slices.Concat(x.only, x.skip)
	}
	var out []string
	for _, p := range all {
		if p.isDomain() == domains {
			out = append(out, p.flag)
		}
	}
	return routing.Some(out, 4)
}

// all returns the flags of the selection.
func (x *selected) all() (out []string) {
	for _, p := range slices.Concat(x.only, x.skip) {
		out = append(out, p.flag)
	}
	return out
}

// rows returns those of what is left out: one for each destination.
func (x *selected) rows(present map[netip.Addr]bool) (rows []Row) {
	for _, out := range x.left {
		l := line{Row: Row{Virtual: out.Name, Origin: out.Origin, Protocol: out.Protocol,
			Status: NotApplicable, Reason: out.reason, Before: out.why}, v: out.Virtual}
		if out.Source.IsValid() {
			l.Source = out.Source.String()
		}
		for i := range max(1, len(out.Destinations)) {
			if l.d = (&bigip.Destination{}); i < len(out.Destinations) {
				l.d = &out.Destinations[i]
			}
			l.setDestination()
			l.Present = out.reason == notSelected && present[l.d.Addrs.From()]
			rows = append(rows, l.Row)
		}
	}
	return rows
}

// among returns rows and those of what is left out, in the order of the files.
func (x *selected) among(rows []Row, c bigip.Config,
	present map[netip.Addr]bool) []Row {
	if len(x.left) == 0 {
		return rows
	}
	type virtual struct{ name, origin string }
	at := make(map[virtual]int, len(c.Virtuals))
	for i, v := range c.Virtuals {
		at[virtual{v.Name, v.Origin}] = i
	}
	left := x.rows(present)
	out := make([]Row, 0, len(rows)+len(left))
	for len(rows) > 0 && len(left) > 0 { // both are in this order
		from := &rows
		if at[virtual{left[0].Virtual, left[0].Origin}] <
			at[virtual{rows[0].Virtual, rows[0].Origin}] {
			from = &left
		}
		out, *from = append(out, (*from)[0]), (*from)[1:]
	}
	return append(append(out, rows...), left...)
}

// findings report what the selection leaves out.
func (x *selected) findings() []routing.Finding {
	names := map[string][]string{}
	for _, out := range x.left {
		names[out.reason] = append(names[out.reason], out.Name)
	}
	return slices.Concat(about(names[notSelected], 4, routing.Finding{Code: "not-selected",
		Message: "left out by " + routing.Some(x.all(), 6) + ": this report does not " +
			"say whether they are ready, and no step is about them",
		Hint: "migrate them in another run; its --diff with this report says what has " +
			"changed"}),
		about(names[otherDomain], 4, routing.Finding{Code: "route-domain",
			Message: "they serve in route domains that this host does not serve: " +
				x.flags(true),
			Hint: "run migrate for their host, with its own --only %ID"}))
}
