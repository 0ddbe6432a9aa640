package routing

import (
	"fmt"
	"net/netip"
	"slices"
)

// judge decides which paths are needed: those for which some reply to some
// class of client would leave otherwise without them. It compares three
// lookups: as it is now, as it will be with the layout, and as it would be
// without anybody else's rules. Where the last two differ, a rule of somebody
// shadows the path.
func (b *builder) judge(l layout) {
	clean := *b
	clean.host.Rules = standardRules
	clean.fib = NewFIB(clean.host)
	ideal := NewFIB(With(clean.host, clean.layOut(b.paths).state))
	b.ideal = ideal
	after := NewFIB(With(b.host, l.state))
	clients := map[Family][]netip.Addr{IPv4: b.clients(IPv4), IPv6: b.clients(IPv6)}
	for _, f := range l.findings {
		if f.Code == "shadowed" {
			b.find(f)
		}
	}
	for _, p := range b.paths {
		v := verdict{path: p, uplink: b.isUplink, base: l.base[p.family]}
		for _, src := range b.classes(p, l.state.Rules) {
			for _, dst := range clients[p.family] {
				q := Query{Src: src, Dst: dst}
				v.add(b.fib.Lookup(q), after.Lookup(q), ideal.Lookup(q))
			}
		}
		b.conclude(v)
	}
}

// classes returns one member of the path for each set of rules whose `from`
// holds it: the others are routed alike.
func (b *builder) classes(p *path, state []Rule) []netip.Addr {
	var froms []netip.Prefix
	for _, r := range slices.Concat(b.host.Rules, state) {
		if r.Family == p.family && r.From.IsValid() && r.From.Bits() > 0 {
			froms = append(froms, r.From)
		}
	}
	slices.SortFunc(froms, comparePrefix)
	froms = slices.Compact(froms)
	seen := map[string]bool{}
	var out []netip.Addr
	for _, c := range p.covers {
		for _, addr := range c.members {
			sig := make([]byte, 0, len(froms)+1)
			for i, f := range froms {
				if f.Contains(addr) {
					sig = fmt.Appendf(sig, "%d ", i)
				}
			}
			if key := string(c.mode) + string(sig); !seen[key] {
				seen[key] = true
				out = append(out, addr)
			}
		}
	}
	return out
}

// verdict collects what the lookups for one path said.
type verdict struct {
	path     *path
	uplink   func(link string) bool
	base     int
	wrong    bool   // some reply leaves otherwise than the path would have it
	better   bool   // the layout changes some reply
	answered []Rule // rules of others that give the right answer already
	shadows  []Rule // rules of others that answer in front of ours
	// rules of others with selectors that answered, and that ours now stand
	// in front of
	replaced []Rule
	// routes through links that are no uplinks, whose clients the path will
	// answer
	lost []Route
}

func (v *verdict) add(before, after, ideal Trace) {
	if rule := answering(before); !sameAnswer(before, ideal) {
		v.wrong = true
	} else if rule != nil && !standard(*rule) {
		v.answered = appendOnce(v.answered, *rule)
	}
	if !sameAnswer(before, after) {
		v.better = true
		if rule := answering(before); rule != nil && deliberate(*rule) {
			v.replaced = appendOnce(v.replaced, *rule)
		}
		if before.Way.Type == Unicast && !v.uplink(before.Way.Link) &&
			v.uplink(after.Way.Link) {
			v.lost = append(v.lost, *before.Route)
		}
	}
	if rule := culprit(after); rule != nil && !sameAnswer(after, ideal) {
		v.shadows = appendOnce(v.shadows, *rule)
	}
}

func (b *builder) conclude(v verdict) {
	p := v.path
	for _, r := range v.shadows {
		if v.base == 0 {
			break // the layout says why, once
		}
		b.find(Finding{Code: "shadowed", Severity: Warning, Subject: pathName(p),
			Origin: r.String(),
			Message: fmt.Sprintf("this rule answers in front of ours for replies of "+
				"%s, and is left alone", pathName(p)),
			Hint: "if it is not meant for them, delete it: ip rule del " + r.Args()})
	}
	p.needed = v.wrong && v.better
	if !p.needed {
		b.without(v)
		return
	}
	b.lostClients(p, v.lost)
	for _, r := range v.replaced {
		b.find(Finding{Code: "overrides-rule", Severity: Warning, Subject: pathName(p),
			Origin: r.String(),
			Message: fmt.Sprintf("this rule answered replies of %s until now; ours "+
				"will stand in front of it", pathName(p)),
			Hint: "if it must go on to answer, give it a priority " +
				"below ours, or --return " + p.link + "=off"})
	}
}

// without gives the listeners of a path that is not installed their status.
func (b *builder) without(v verdict) {
	for i := range b.rows {
		if b.rows[i].path != v.path {
			continue
		}
		r := &b.rows[i]
		switch {
		case v.wrong:
			r.Status, r.Reason = Unresolved, "shadowed"
		case len(v.answered) > 0:
			r.Status, r.Reason = Unchanged, "already-routed"
		default:
			r.Status = Unchanged
		}
	}
	if v.wrong {
		return
	}
	for _, r := range v.answered {
		b.find(Finding{Code: "already-routed", Severity: Info, Subject: pathName(v.path),
			Origin: r.String(),
			Message: fmt.Sprintf("this rule sends the replies of %s the right way "+
				"already; nothing is installed for them", pathName(v.path))})
	}
}

func pathName(p *path) string {
	if !p.hops[0].Via.IsValid() {
		return p.link
	}
	return p.link + " via " + p.hops[0].Via.String()
}

// answering returns the rule that ended a lookup.
func answering(t Trace) *Rule {
	if t.Way.Type == 0 || len(t.Steps) == 0 {
		return nil
	}
	return &t.Steps[len(t.Steps)-1].Rule
}

// culprit returns the rule of others that kept a lookup from our block: one
// that answered, or a goto that leapt over it.
func culprit(t Trace) *Rule {
	if rule := answering(t); rule != nil && !standard(*rule) {
		return rule
	}
	for i := range t.Steps {
		if t.Steps[i].Effect == Jumped {
			return &t.Steps[i].Rule
		}
	}
	return nil
}

// describe sets before and after of every outcome, marks those that a rule of
// others keeps from their path, and says what wildcards take along.
func (b *builder) describe(l layout) {
	after := NewFIB(With(b.host, l.state))
	type ends struct{ before, after, ideal Way }
	ways := map[netip.Addr]ends{}
	far := map[Family]netip.Addr{IPv4: OffLink(b.host, IPv4), IPv6: OffLink(b.host, IPv6)}
	for i := range b.rows {
		r := &b.rows[i]
		if r.Addr.IsLoopback() || r.Addr.IsLinkLocalUnicast() {
			continue
		}
		w, ok := ways[r.Addr]
		if !ok {
			q := Query{Src: r.Addr, Dst: far[FamilyOf(r.Addr)]}
			w = ends{b.fib.Way(q), after.Way(q), b.ideal.Way(q)}
			ways[r.Addr] = w
		}
		r.Before, r.After = w.before, w.after
		if (r.Status == Ready || r.Status == Armed) && !sameWay(w.after, w.ideal) {
			r.Status, r.Reason = Unresolved, "shadowed"
		}
	}
	b.wildcards()
}

// wildcards lists, for each wildcard listener, the addresses that move: rules
// are by address, so all that listens there moves.
func (b *builder) wildcards() {
	moved := map[string][]string{}
	var order []string
	origins := map[string]string{}
	for i := range b.rows {
		r := &b.rows[i]
		if r.wild && r.path != nil && r.path.needed {
			if moved[r.Listen] == nil {
				order, origins[r.Listen] = append(order, r.Listen), origin(r)
			}
			moved[r.Listen] = appendOnce(moved[r.Listen], r.Addr.String())
		}
	}
	for _, listen := range order {
		b.find(Finding{Code: "wildcard-covers", Severity: Info, Subject: listen,
			Origin: origins[listen],
			Message: fmt.Sprintf("a wildcard: replies of everything that listens on "+
				"%s move, not of NGINX alone", Some(moved[listen], 8))})
	}
}
