package report

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"lasthop/routing"
)

// verdict says in a few sentences what the plan comes to: what changes, how
// many listeners reply the way their requests come in, how many are unresolved,
// and how many findings are problems. The tone is "good", "warn" or "bad".
// Text, HTML and Markdown have the same verdict.
func (p Plan) verdict() (sentence, tone string) {
	problems, _ := split(p.Plan.Findings)
	parts := []string{p.result()}
	if n := byStatus(p.Plan.Outcomes)[routing.Unresolved]; n > 0 {
		is := "listeners are"
		if n == 1 {
			is = "listener is"
		}
		parts = append(parts, fmt.Sprintf("%s %s unresolved: the findings say what "+
			"lasthop must know.", number(n), is))
	}
	if len(problems) > 0 {
		parts = append(parts, "Findings: "+severities(problems)+".")
	}
	return strings.Join(parts, " "), p.tone(problems)
}

func (p Plan) tone(problems []routing.Finding) string {
	switch {
	case bySeverity(problems)[routing.Error] > 0 || p.Proof.Differs():
		return "bad"
	case len(problems) > 0 || len(p.Plan.Outcomes) == 0 ||
		byStatus(p.Plan.Outcomes)[routing.Unresolved] > 0:
		return "warn"
	}
	return "good"
}

// result says what changes, and what for.
func (p Plan) result() string {
	n := byStatus(p.Plan.Outcomes)
	changes, right := len(p.Diff.Ops()), n[routing.Ready]+n[routing.Armed]+n[routing.Unchanged]
	switch {
	case p.Proof.Differs():
		return "Do not apply this plan: the kernel does not do what was planned. The " +
			"differences must be explained first."
	case changes == 0 && len(p.Plan.State.Rules) == 0:
		return nothingNeeded(p.Plan)
	case changes == 0:
		return "Nothing to do: everything is in place."
	case n[routing.Ready]+n[routing.Armed] == 0:
		return count(changes, "change") + ": remove what is no longer needed."
	}
	pathless := kinds(n, countedStatus, routing.LocalOnly, routing.Off)
	if pathless != "" {
		pathless = " (" + pathless + ")"
	}
	return fmt.Sprintf("%s: %s of %s%s will reply the way their requests come in. Without "+
		"lasthop, %s.", count(changes, "change"), number(right),
		count(len(p.Plan.Outcomes), "listener"), pathless, without(p.Plan.Outcomes))
}

// without says how many of the listeners that have a path would reply another
// way without it: to clients behind a router, or only to clients nearby.
func without(outcomes []routing.Outcome) string {
	far, near := 0, 0
	for _, o := range outcomes {
		o.After.LastHop = false // some connections go back as they came today, too
		switch {
		case routed(o) && !sameWay(o.Before, o.After):
			far++
		case routed(o):
			near++
		}
	}
	reply := func(n int) string {
		if n == 1 {
			return "1 replies another way"
		}
		return number(n) + " reply another way"
	}
	const away, nearby = " to clients behind a router", " to some clients nearby"
	switch {
	case near == 0:
		return reply(far) + away
	case far == 0:
		return reply(near) + nearby
	}
	return reply(far) + away + ", and " + number(near) + nearby
}

// nothingNeeded says why there is nothing to do. It promises no more than what
// is known: of other listeners it says what they rest on.
func nothingNeeded(p routing.Plan) string {
	n := counted(p.Outcomes, func(o routing.Outcome) string { return restsOn(p, o) })
	problems, _ := split(p.Findings)
	switch all := len(p.Outcomes); {
	case all == 0:
		return "Nothing to do: NGINX listens on all addresses, and this network " +
			"namespace has none but loopback and link-local ones. If NGINX runs in " +
			"a container, name a process of it with --netns PID, or run lasthop on " +
			"the host that has the uplinks."
	case slices.ContainsFunc(p.Outcomes, routing.Outcome.Asks):
		return "Nothing to do yet."
	case n[hostLocal] == all:
		return "Nothing to do: NGINX listens on addresses of this host or link alone, " +
			"where no gateway is involved."
	case n[switchedOff] == all:
		return "Nothing to do: lasthop leaves all listeners alone; the table says why."
	case n[known] == all && len(problems) == 0:
		return "Nothing to do: every reply leaves the way its request came in."
	}
	return "Nothing to do. Listeners: " + kinds(n,
		func(n int, what string) string { return number(n) + " " + what },
		known, assumed, decided, hostLocal, switchedOff) + "."
}

// What the way of a listener rests on.
const (
	known       = "by a known gateway"
	assumed     = "by an assumed gateway"
	decided     = "by the gateway that the administrator named"
	hostLocal   = "host-local"
	switchedOff = "switched off"
)

func restsOn(p routing.Plan, o routing.Outcome) string {
	path := p.PathOf(o)
	switch {
	case o.Status == routing.Off:
		return switchedOff
	case path == nil:
		return hostLocal
	case path.Source.Assumed():
		return assumed
	case path.Source == routing.FromPin || path.Source == routing.FromStatic:
		return decided
	}
	return known
}

// marks says for each outcome what apply does to its replies: '+' gives them a
// way, '~' moves them, 0 leaves them as they are.
func (p Plan) marks() []byte {
	out := make([]byte, len(p.Plan.Outcomes))
	if p.Diff.Empty() {
		return out
	}
	near, removed := p.movingNear(), removedRules(p.Diff)
	for i, o := range p.Plan.Outcomes {
		now, path := o.Before, p.Plan.PathOf(o)
		if p.Now != nil {
			now = p.Now.Outcomes[i]
		}
		switch {
		case o.Status == routing.LocalOnly:
		case now.Type != routing.Unicast && o.After.Type == routing.Unicast:
			out[i] = '+'
		case !sameWay(now, o.After), path != nil && near[o.Path],
			(path == nil || path.Table == 0) && removed.has(o.Addr):
			out[i] = '~'
		}
	}
	return out
}

// movingNear are the paths, by Outcome.Path, of which apply moves replies to
// clients nearby.
func (p Plan) movingNear() map[int]bool {
	out := map[int]bool{}
	for k, m := range p.Plan.Moves {
		now := m.Before
		if p.Now != nil {
			now = p.Now.Moves[k]
		}
		if m.Class != routing.ClassOffLink && !sameWay(now, m.After) {
			out[pathOf(p.Plan, m)] = true
		}
	}
	return out
}

// prefixSet is a set of prefixes, by length.
type prefixSet map[int]map[netip.Prefix]bool

// removedRules returns the sources whose rules a diff deletes.
func removedRules(d routing.Diff) prefixSet {
	out := prefixSet{}
	for _, r := range d.DelRules {
		if out[r.From.Bits()] == nil {
			out[r.From.Bits()] = map[netip.Prefix]bool{}
		}
		out[r.From.Bits()][r.From] = true
	}
	return out
}

// has reports whether the address is in one of the prefixes.
func (s prefixSet) has(a netip.Addr) bool {
	for bits, prefixes := range s {
		if p, err := a.Prefix(bits); err == nil && prefixes[p] {
			return true
		}
	}
	return false
}
