package routing

import (
	"cmp"
	"net/netip"
	"slices"
)

// behind is what a block says, for one prefix of a path, about the foreign
// rules that stand behind it, in their order. Each of them would answer these
// replies if the block was not there. A foreign rule is a rule that lasthop
// does not own.
type behind struct {
	exceptions []Rule // up to the last that was written for some packets
	evaded     []Rule // what catch-alls say after that, except for their defaults
}

// behindBlock walks the foreign rules behind the block.
type behindBlock struct {
	foreignRules
	path   *path
	cover  cover
	prefix netip.Prefix
	over   endedRules
	out    []Rule
	weight []weight // of each
	// the rules of a catch-all that marked packets skip: the first and
	// those behind the last, and the catch-all itself
	passed  [2]int
	catcher Rule
}

// weight says how much a repeated rule matters.
type weight int

const (
	// this is for main's rules: the live rules behind the block do the
	// same, so a rule for main matters only in front of foreign rules
	asMain weight = iota
	asEvaded
	asException
)

// behind returns what the block says for one prefix of a path.
func (l foreignRules) behind(p *path, c cover, prefix netip.Prefix) behind {
	w := behindBlock{foreignRules: l, path: p, cover: c, prefix: prefix}
	list := l.fib.rules[p.family].list
	// No reply gets behind main if main knows every destination. Behind
	// such a table, which the block evades, all replies go on except for
	// those that another catch-all would take.
	dead, taken := false, false
	var only Rule // what only packets with its mark get behind
	for i := 0; i < len(list) && !dead; i++ {
		r, reached := list[i].withMark(only)
		switch {
		case !reached:
		case r.Priority <= l.base[p.family] || r.goesFirst() || !r.forReplies():
		case r.Action == Goto && (catchesAll(r) || w.all(r)):
			i, _ = target(list, i)
		case !catchesAll(r):
			w.selective(r)
		default:
			if !taken {
				w.catchAll(r)
			}
			taken = taken || l.fib.ends(r)
			dead = l.fib.ends(r) && (r.Action != ToTable || r.Table == TableMain)
			if dead && r.Not && r.Mask != 0 {
				dead, only = false, r
			}
		}
	}
	return w.parts()
}

// withMark returns a rule for those of its packets that have another rule's
// mark, if any can. An inverted rule cannot express it.
func (r Rule) withMark(only Rule) (Rule, bool) {
	if only.Mask == 0 {
		return r, true
	}
	can := !r.Not && (r.Mark^only.Mark)&r.Mask&only.Mask == 0
	r.Mark, r.Mask = r.Mark&r.Mask|only.Mark&only.Mask, r.Mask|only.Mask
	return r, can
}

// all reports whether a rule takes all replies of the prefix.
func (w *behindBlock) all(r Rule) bool {
	return r.From.Bits() <= w.prefix.Bits() && r.From.Overlaps(w.prefix) && !r.To.IsValid() &&
		r.OIF == "" && r.Mask == 0 && r.Opaque == "" && !r.Not
}

// narrowed returns a rule for the sources that it and the block have in common.
func (w *behindBlock) narrowed(r Rule) Rule {
	if r.From.Bits() < w.prefix.Bits() {
		r.From = w.prefix
	}
	return r
}

// add adds a rule for the packets that a foreign rule matches.
func (w *behindBlock) add(r Rule, of weight) {
	r = w.narrowed(r)
	r.IIF, r.Protocol, r.Not = "lo", w.policy.Numbers.Protocol, false
	w.out, w.weight = append(w.out, r), append(w.weight, of)
}

// selective repeats a rule that was written for some packets. A hand-written
// rule that the path replaces goes on to decide what byTable says, in its place
// among the foreign rules.
func (w *behindBlock) selective(r Rule) {
	if !r.repeatable() || r.From.IsValid() && !r.From.Overlaps(w.prefix) {
		return
	}
	p, live := w.path, w.over.reached(w.narrowed(r), within(w.prefix, w.cover.members))
	if w.fib.ends(r) {
		w.over.add(live)
	}
	replaced := r.byHand() && w.replaces(p, r)
	switch {
	case replaced && r.Table == p.named && w.cover.mode == Strict:
		for _, one := range live {
			for _, d := range w.exempt[p] {
				one.To, one.Table = d.to, d.table
				w.add(one, asException)
			}
		}
		return
	case replaced || r.byHand() && (p.source == FromPin || p.source == FromStatic):
		// the rule decides no more: the path replaces it, or the user
		// decides
		for _, one := range live {
			w.bans(one)
		}
		return
	case r.byHand() && len(w.policy.Addresses) > 0:
		for _, one := range reached(live, w.cover.members,
			func(a netip.Addr) bool { return !w.pinned(a) }) {
			w.bans(one)
		}
		live = reached(live, w.cover.members, w.pinned)
	}
	for _, one := range live {
		switch {
		case one.Action == ToTable && one.Table == TableMain:
			w.main(one, w.fib.ends(r))
		case w.decides(one):
			w.add(one, asException)
		}
	}
}

// main adds what a rule for main does, without main's ways out of this host:
// first what main knows elsewhere, then what the path's table holds instead.
// ends tells that no rule behind it sees these packets.
func (w *behindBlock) main(r Rule, ends bool) {
	if r.SuppressGroup != None {
		w.bans(r)
		return // the path's rule takes its place
	}
	if !w.rejected[r.Family] { // else the path's table has all of it
		for _, x := range w.asking(r) {
			w.add(x, asMain)
		}
	}
	table := r
	table.Table, table.SuppressPrefix = w.path.table, None
	if !ends {
		table.SuppressPrefix = max(r.SuppressPrefix, wide(r.Family))
		for _, route := range w.elsewhere(r) { // lasthop suppresses these
			x := table
			x.To, x.SuppressPrefix = route.Dst, None
			if from := route.Source(); from.Bits() > x.From.Bits() &&
				from.Bits() > w.prefix.Bits() {
				x.From = from
			}
			w.add(x, asMain)
		}
	}
	w.add(table, asMain)
}

// elsewhere returns the routes of main by outward links except the path's own,
// as far as a rule for main uses them. They must be few, since each becomes a
// rule.
func (w *behindBlock) elsewhere(r Rule) []Route {
	var out []Route
	for _, x := range w.host.Routes {
		if x.Table == TableMain && x.Family() == r.Family && x.Type == Unicast &&
			!isWide(x.Dst) && x.Dst.Bits() > r.SuppressPrefix &&
			!x.Dst.Addr().IsLinkLocalUnicast() && !x.uses(w.path.link) &&
			!w.isHost(x.Dst) && w.fib.finds(x, w.prefix) &&
			(r.To.Bits() <= 0 || r.To.Overlaps(x.Dst)) &&
			slices.ContainsFunc(x.Hops, func(h Hop) bool {
				return w.isOutward(h.Link)
			}) {
			out = append(out, x)
		}
	}
	order := func(a, b Route) int {
		return cmp.Or(narrowest(a.Dst, b.Dst), comparePrefix(a.Source(), b.Source()))
	}
	slices.SortFunc(out, order)
	out = slices.CompactFunc(out, func(a, b Route) bool { return order(a, b) == 0 })
	return out[:min(len(out), classSize)]
}

// asking returns the rules that look up a foreign table as it is, except for
// its ways out of this host. IPv6's private addresses have a rule of their own:
// the widest of their routes are as wide as those that are ways to the
// Internet. They have none if a VPN takes all private addresses and the
// Internet.
func (w *behindBlock) asking(r Rule) []Rule {
	var out []Rule
	ask := func(bits int) {
		x := r
		x.SuppressPrefix = max(r.SuppressPrefix, bits)
		if w.cover.mode == Strict {
			x.SuppressGroup = w.group
		}
		out = append(out, x)
	}
	switch all := w.fib.takesAll(r); {
	case r.To.Bits() >= private.Bits() && private.Contains(r.To.Addr()):
		if all {
			ask(private.Bits())
		} else {
			ask(private.Bits() - 1)
		}
		return out
	case r.Family == IPv6 && !all && r.To.Bits() <= 0:
		to := r.To
		r.To = private
		ask(private.Bits() - 1)
		r.To = to
	}
	ask(wide(r.Family))
	return out
}

// catchAll adds what a rule that takes every packet does, except for its
// default.
func (w *behindBlock) catchAll(r Rule) {
	if r.Not {
		r.OIF = "" // a reply has none
	}
	// lasthop cannot express it
	bare := r.SuppressGroup != None || r.Mask != 0 && !r.Not
	switch {
	case r.Action != ToTable:
	case r.Table == TableMain && !bare:
		if r.Not {
			r.Mark, r.Mask = 0, 0
		}
		if !w.fib.ends(r) {
			w.main(r, false)
		}
	case bare, standard(r), w.fib.delivers(r), w.fib.rejects(r.Family, r.Table):
		w.bans(r)
	// it would take several rules, and its table knows nothing but ways out
	// of this host
	case (r.Mask != 0 || slices.Contains(w.weight, asMain)) && !w.knowsMore(r):
	default:
		first := len(w.out)
		passed := r.Not && r.Mask != 0
		if passed {
			marked := r
			marked.Table, marked.SuppressPrefix = TableMain, None
			w.main(marked, true)
			for i := first; i < len(w.out); i++ {
				w.weight[i] = asEvaded
			}
			r.Mark, r.Mask = 0, 0
		}
		for _, x := range w.asking(r) {
			w.add(x, asEvaded)
		}
		if passed {
			w.passed, w.catcher = [2]int{first, len(w.out)}, r
		}
	}
}

// bans adds a rule for each destination that a table rejects, if the rule
// for the table cannot be repeated; except for what is as wide as a default.
// Main's bans matter only in front of foreign rules. A ban also holds for
// packets whose mark skips the rule.
func (w *behindBlock) bans(r Rule) {
	of := asException
	if r.Table == TableMain {
		of = asMain
	}
	if r.Not {
		r.Mark, r.Mask = 0, 0
	}
	var to []netip.Prefix
	for dst, same := range w.fib.routes(r) {
		if !isWide(dst) && (r.To.Bits() <= 0 || r.To.Overlaps(dst)) &&
			slices.ContainsFunc(same, func(x Route) bool { return x.Type.Rejects() }) {
			if dst.Bits() < r.To.Bits() {
				dst = r.To
			}
			to = append(to, dst)
		}
	}
	for _, r.To = range sortOnce(to, narrowest) {
		w.add(r, of)
	}
}

// knowsMore reports whether a table knows anything but ways out of this host.
func (w *behindBlock) knowsMore(r Rule) bool {
	for dst, same := range w.fib.routes(r) {
		if !isWide(dst) &&
			slices.ContainsFunc(same, func(x Route) bool {
				// a reject route is never suppressed
				known := dst.Bits() > r.SuppressPrefix || x.Type.Rejects()
				return known && x.Type != Throw && !slices.ContainsFunc(x.Hops,
					func(h Hop) bool { return w.isOutward(h.Link) })
			}) {
			return true
		}
	}
	return false
}

// parts divides the rules in two: those up to the last that was written for
// some packets, and what catch-alls say behind that.
func (w *behindBlock) parts() behind {
	// some packets skip this catch-all; what stands behind it would be
	// behind its end for them. So only bans are repeated from there
	if first, last := w.passed[0], w.passed[1]; slices.ContainsFunc(w.weight[last:],
		func(of weight) bool { return of != asMain }) {
		n := len(w.out)
		w.bans(w.catcher)
		w.out = slices.Concat(w.out[:first], w.out[n:], w.out[last:n])
		w.weight = slices.Concat(w.weight[:first], w.weight[n:], w.weight[last:n])
	}
	cut := func(least weight) int {
		n := len(w.out)
		for n > 0 && w.weight[n-1] < least {
			n--
		}
		return n
	}
	n, all := cut(asException), cut(asEvaded)
	if all-n > mostEvaded {
		n = all // they need the numbers of exceptions
	}
	return behind{w.out[:n:n], w.out[n:max(n, all)]}
}

// asksMain returns the live rules for main, without their sources.
func (l *layout) asksMain(f Family) []Rule {
	if l.rejected[f] {
		return nil
	}
	w := behindBlock{foreignRules: foreignRules{l}, cover: cover{mode: Strict}}
	return w.asking(NewRule(f, 0, TableMain))
}
