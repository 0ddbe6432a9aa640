package routing

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// Inputs is everything that a decision depends on.
type Inputs struct {
	Host      Host
	Listeners []Listener
	Binds     []Bind
	Policy    Policy
	Warnings  []Finding // about the configurations; the plan repeats them
}

// Decision is what Inputs lead to.
type Decision struct {
	Plan  Plan
	Owned State // what lasthop owns on the host now
	Diff  Diff  // the way from Owned to Plan.State

	inputs  Inputs
	foreign Host // the host of inputs without Owned
	whole   State
}

// Decide makes the decision: which path each listener's replies take, and the
// whole state that makes them take it. It depends on its argument alone. It
// uses what lasthop owns on the host only to keep table numbers and held
// gateways. An error is of type *PolicyError: the policy contradicts itself or
// the host.
func Decide(in Inputs) (Decision, error) {
	d, _, err := Consider(in)
	return d, err
}

// Consider is Decide. It also returns what the decision rests on.
func Consider(in Inputs) (Decision, *Judgement, error) {
	if err := in.Policy.Validate(in.Host); err != nil {
		return Decision{}, nil, err
	}
	t := newTopology(in.Host, in.Policy)
	j := judged(t, in)
	for unused := j.needlessHeld(); len(unused) > 0; unused = j.needlessHeld() {
		t = t.withoutHeld(unused)
		j = judged(t, in)
	}
	d, state := j.draft, j.needed.state
	d.tellAssumed()
	d.tellFar()
	d.describe(j.needed, j.after, j.ideal, in.Binds)
	plan := d.plan(state)
	plan.Findings = append(plan.Findings, in.Warnings...)
	own := readable(t.own, state, in.Host)
	return Decision{Plan: plan, Owned: own, Diff: Compare(own, state), inputs: in,
		foreign: t.host, whole: j.whole.state}, &Judgement{d, j.after, j.ideal}, nil
}

// judged returns the paths of all listeners, and which of them are needed.
func judged(t *topology, in Inputs) *judge {
	d := resolveAll(t, in.Listeners)
	d.coverPaths(in.Binds)
	d.assignTables()
	return d.judge()
}

// Spare returns what the installed paths of a link and family would have, if no
// listener needs them now. It is made from the inputs, as the plan is: the
// installed path may lack a new gateway, or a ban.
func (d Decision) Spare(link string, f Family) State {
	installed, needed := map[netip.Prefix]bool{}, map[netip.Prefix]bool{}
	for _, r := range d.Owned.Rules {
		installed[r.From] = true
	}
	for _, r := range d.Plan.State.Rules {
		needed[r.From] = true
	}
	s := d.whole.Serving(link, f)
	s.Rules = filter(s.Rules, func(r Rule) bool { return installed[r.From] && !needed[r.From] })
	s.Routes = filter(s.Routes, func(r Route) bool {
		return slices.ContainsFunc(s.Rules, func(x Rule) bool { return x.Table == r.Table })
	})
	if len(s.Rules) > 0 {
		s.Groups, s.Filters, s.Wanted = d.whole.Groups, d.whole.Filters, d.whole.Wanted
	}
	return s
}

// Holds reports whether the plan is also the plan of in: the same listeners
// meet the same host with the same policy. What lasthop owns on the host may be
// as it was, or as the plan wants it.
func (d Decision) Holds(in Inputs) bool {
	if d.inputs.same(in) {
		return true
	}
	n := in.Policy.Numbers
	owned := readable(Owned(in.Host, n), d.Plan.State, in.Host)
	return d.inputs.Policy.Numbers == n && d.ownedAsKnown(owned) &&
		reflect.DeepEqual(d.inputs.Policy, in.Policy) &&
		reflect.DeepEqual(d.inputs.Listeners, in.Listeners) &&
		reflect.DeepEqual(d.inputs.Binds, in.Binds) &&
		reflect.DeepEqual(d.inputs.Warnings, in.Warnings) &&
		d.foreign.same(Without(in.Host, n))
}

// same reports whether the two are equal. It returns immediately if they share
// slices.
func (in Inputs) same(x Inputs) bool {
	if !in.Host.same(x.Host) {
		return false
	}
	in.Host, x.Host = Host{}, Host{}
	return reflect.DeepEqual(in, x)
}

// same reports whether the two are equal. It compares addresses and routes
// without reflection: there may be many.
func (h Host) same(x Host) bool {
	if !slices.Equal(h.Addrs, x.Addrs) || !slices.EqualFunc(h.Routes, x.Routes, identical) {
		return false
	}
	h.Addrs, x.Addrs, h.Routes, x.Routes = nil, nil, nil, nil
	return reflect.DeepEqual(h, x)
}

func identical(a, b Route) bool { return sameRoute(a, b) && slices.Equal(a.Hops, b.Hops) }

// Grouped returns the links that were in lasthop's group before lasthop added
// any: see Grouped.
func (d Decision) Grouped() []LinkGroup { return Grouped(d.foreign, d.inputs.Policy.Numbers) }

func (d Decision) ownedAsKnown(owned State) bool {
	return reflect.DeepEqual(d.Owned, owned) || Compare(owned, d.Plan.State).Empty()
}

// Renew returns the decision for in: if the plan Holds, the plan of d compared
// with what lasthop owns now, else a new decision.
func (d Decision) Renew(in Inputs) (Decision, error) {
	if !d.Holds(in) {
		return Decide(in)
	}
	d.Owned = readable(Owned(in.Host, in.Policy.Numbers), d.Plan.State, in.Host)
	d.Diff = Compare(d.Owned, d.Plan.State)
	d.inputs = in
	return d, nil
}

// Unread reports whether this user could not read rules of the packet filter
// that may change the plan, or whether the mode last-hop is available. The
// digest may then differ from that of a user that can read them.
func (d Decision) Unread() bool {
	return slices.ContainsFunc(d.Plan.Findings, func(f Finding) bool {
		return f.Code == "rulesets-unread" || f.Code == "last-hop-unread"
	})
}

// ShortDigest returns the beginning of a digest, as people compare it: 12
// digits.
func ShortDigest(digest string) string {
	digits := strings.TrimPrefix(digest, "sha256:")
	return digits[:min(len(digits), shortDigest)]
}

// IsDigest reports whether a person who names a digest, or at least 12 digits
// of its beginning, means this one.
func IsDigest(named, digest string) bool {
	digits := strings.ToLower(strings.TrimPrefix(named, "sha256:"))
	return len(digits) >= shortDigest &&
		strings.HasPrefix(strings.TrimPrefix(digest, "sha256:"), digits)
}

const shortDigest = 12 // digits: two plans of one host do not share them by chance

// Digest identifies a plan and the changes it means on this host: equal digests
// are equal wanted states, reached by the same writes. It is "sha256:" and 64
// hexadecimal digits.
func (d Decision) Digest() string {
	var b strings.Builder
	b.WriteString(d.Plan.State.String())
	for _, op := range d.Diff.Ops() {
		fmt.Fprintln(&b, op)
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(b.String())))
}
