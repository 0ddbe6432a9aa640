package routing

import "slices"

// Judgement is what a decision rests on, for a program that asks the kernel:
// which clients a listener has, and how replies to each must leave.
type Judgement struct {
	draft        *draft
	after, ideal *FIB // with what the plan installs; with no rules but those of all paths
}

// Clients returns a client for each class that an outcome is judged by, except
// for those behind the gateways; the gateways themselves are the last. It
// returns none for an outcome without a path. If there are many uplinks, a few
// of their LANs stand for all.
func (j *Judgement) Clients(o Outcome) []Client {
	if o.Path == 0 {
		return nil
	}
	p := j.draft.paths[o.Path-1]
	var out []Client
	for _, s := range j.draft.audienceOf(p.family).of(p.link) {
		if s.addr == o.Addr || !s.routable() || s.rule != nil && !s.rule.mayMatch(o.Addr) {
			continue
		}
		if c := j.draft.classify(s, p.link); c.Class != ClassOffLink {
			out = append(out, c)
		}
	}
	for _, h := range slices.Concat(p.hops, p.standby) {
		if h.Link == p.link && j.draft.connects(linkFamily{p.link, p.family}, h.Via) {
			out = append(out, Client{Addr: h.Via, Class: ClassRouter,
				Of: "gateway on " + p.link})
		}
	}
	return out
}

// Wrong reports whether the present way of a reply contradicts the plan: the
// reply leaves another way than with the plan, or a foreign rule in front of
// the plan's rules takes it from its path. A foreign rule to a table of its own
// is right, since an administrator wrote it so. A foreign rule for main is not:
// it is for connections that this host makes. A reply is not wrong either if it
// leaves right with the mark by which another program keeps replies on the
// path's link (connmark): it may have that mark. want is the way that the reply
// should leave.
func (j *Judgement) Wrong(o Outcome, q Query, now Way) (want Way, wrong bool) {
	ideal := j.ideal.answer(q)
	if ideal.agrees(now) {
		return ideal.Way, false
	}
	after := j.after.answer(q)
	rule := culprit(after)
	stands := rule != nil && !j.draft.policy.Numbers.OwnsRule(*rule) &&
		(rule.Action != ToTable || rule.Table != TableMain)
	if stands && after.agrees(now) {
		return ideal.Way, false
	}
	for _, r := range j.draft.marked(j.draft.paths[o.Path-1]) {
		q.Mark = r.Mark
		if sameAnswer(j.after.answer(q).fallback(), ideal.fallback()) {
			return ideal.Way, false
		}
	}
	return ideal.Way, true
}

// agrees is Agrees, but ignores the tables of the answers.
func (t Trace) agrees(w Way) bool {
	return t.Agrees(w) || slices.ContainsFunc(t.Ends, func(end Way) bool {
		return end.Type == Unicast && t.alike(end.fallback(), w.fallback())
	})
}
