package routing

import (
	"errors"
	"fmt"
	"net/netip"
)

// Op is one write to the kernel, or its reversal. Exactly one of Route, Rule,
// Group, Filter and Wanted is set.
//
// Setting a route is RTM_NEWROUTE with CREATE|REPLACE, or with CREATE|APPEND.
// Adding a rule is RTM_NEWRULE. Setting a group is RTM_SETLINK with IFLA_GROUP.
// Setting a filter is RTM_NEWTFILTER with CREATE. Delete turns them into
// RTM_DELROUTE, RTM_DELRULE, group 0 and RTM_DELTFILTER. Wanted is an entry of
// a map of lasthop's programs.
type Op struct {
	Delete bool
	Append bool // behind the routes with the same key
	Route  *Route
	Rule   *Rule
	Group  *LinkGroup
	Filter *Filter
	Wanted *Wanted
}

// Ops lists the writes of the diff in the order in which Execute makes them.
func (d Diff) Ops() []Op {
	var ops []Op
	for _, step := range d.steps() {
		ops = append(ops, step...)
	}
	return ops
}

// steps returns the groups of writes: make, then break. Filters learn before
// routes look up what was learned.
func (d Diff) steps() [11][]Op {
	appended := opsOf(d.AppendRoutes, false)
	for i := range appended {
		appended[i].Append = true
	}
	return [11][]Op{
		opsOf(d.AddWanted, false), opsOf(d.SetFilters, false),
		opsOf(d.SetRoutes, false), appended, opsOf(d.SetGroups, false),
		opsOf(d.AddRules, false),
		opsOf(d.DelRules, true), opsOf(d.DelRoutes, true), opsOf(d.UnsetGroups, true),
		opsOf(d.DelFilters, true), opsOf(d.DelWanted, true),
	}
}

// opsOf returns the writes that make objects, or that delete them.
func opsOf[T Route | Rule | LinkGroup | Filter | Wanted](objects []T, remove bool) []Op {
	ops := make([]Op, len(objects))
	for i := range objects {
		ops[i].Delete = remove
		switch x := any(&objects[i]).(type) {
		case *Route:
			ops[i].Route = x
		case *Rule:
			ops[i].Rule = x
		case *LinkGroup:
			ops[i].Group = x
		case *Filter:
			ops[i].Filter = x
		case *Wanted:
			ops[i].Wanted = x
		}
	}
	return ops
}

// Execute makes the writes of a diff by calling do for each. The order keeps
// every state in between safe: routes come before the rules that use them and
// go after them. It goes on after a failure, but makes no write that the
// failure makes unsafe. It returns the writes made and all errors joined; each
// error of do is wrapped once, with the write's text.
func Execute(d Diff, do func(Op) error) (done []Op, err error) {
	e := executor{do: do, failed: map[uint32]bool{}, bare: map[netip.Prefix]bool{}}
	for i, step := range d.steps() {
		for _, op := range step {
			e.try(i, op)
		}
	}
	return e.done, errors.Join(e.errs...)
}

// executor carries out a diff and records failures, so that it skips writes
// that depend on a failed one.
type executor struct {
	do     func(Op) error
	done   []Op
	errs   []error
	failed map[uint32]bool       // tables that a route could not be written to
	bare   map[netip.Prefix]bool // sources that a rule could not be added for
	// a rule or group could not be put in place: the old one stays
	noAdd bool
	// a listener or filter could not be put in place, or a route that needs
	// them is still there: the old ones stay. Without them replies go as
	// their routes say, so no other write has to wait
	noLearning bool
}

// The steps of Diff.steps.
const (
	addWanted = iota
	setFilters
	setRoutes
	appendRoutes
	setGroups
	addRules
	delRules
	delRoutes
	unsetGroups
	delFilters
	delWanted
)

func (e *executor) try(step int, op Op) {
	if !e.allowed(step, op) {
		return
	}
	if err := e.do(op); err != nil {
		e.errs = append(e.errs, fmt.Errorf("%s: %w", op, err))
		e.note(step, op)
		return
	}
	e.done = append(e.done, op)
}

// allowed reports whether a write is safe after the failures so far. No rule
// may point to a table that lacks a route, or stand there without the
// exceptions in front of it. An old object is deleted only if its replacement
// is in place.
func (e *executor) allowed(step int, op Op) bool {
	switch step {
	case addRules:
		return !e.failed[op.Rule.Table] && !e.bare[op.Rule.From]
	case delRules, delRoutes, unsetGroups:
		return !e.noAdd && len(e.failed) == 0
	case delFilters, delWanted:
		return !e.noAdd && len(e.failed) == 0 && !e.noLearning
	}
	return true
}

func (e *executor) note(step int, op Op) {
	switch step {
	case addWanted, setFilters, delRoutes, delFilters:
		e.noLearning = true
	case setRoutes, appendRoutes:
		e.failed[op.Route.Table] = true
	case setGroups:
		e.noAdd = true
	case addRules:
		e.noAdd, e.bare[op.Rule.From] = true, true
	case delRules:
		e.noAdd = true // the rule is still there: its table and its groups must stay
	}
}
