package routing

import (
	"errors"
	"fmt"
	"net/netip"
)

// Op is one write to the kernel, or its taking back. Exactly one of Route, Rule
// and Group is set.
//
// Setting a route is RTM_NEWROUTE with CREATE|REPLACE, or with CREATE|APPEND,
// adding a rule is
// RTM_NEWRULE, setting a group is RTM_NEWLINK with IFLA_GROUP; Delete turns
// them into RTM_DELROUTE, RTM_DELRULE and group 0.
type Op struct {
	Delete bool
	Append bool // behind the routes with the same key
	Route  *Route
	Rule   *Rule
	Group  *LinkGroup
}

// Ops lists the writes of the diff in the order in which Execute makes them.
func (d Diff) Ops() []Op {
	var ops []Op
	for _, step := range d.steps() {
		ops = append(ops, step...)
	}
	return ops
}

// steps returns the seven groups of writes: make, then break.
func (d Diff) steps() [7][]Op {
	appended := opsOf(d.AppendRoutes, false)
	for i := range appended {
		appended[i].Append = true
	}
	return [7][]Op{
		opsOf(d.SetRoutes, false), appended, opsOf(d.SetGroups, false),
		opsOf(d.AddRules, false),
		opsOf(d.DelRules, true), opsOf(d.DelRoutes, true), opsOf(d.UnsetGroups, true),
	}
}

// opsOf returns the writes that make objects, or that delete them.
func opsOf[T Route | Rule | LinkGroup](objects []T, remove bool) []Op {
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
		}
	}
	return ops
}

// Execute makes the writes of a diff by calling do for each, in an order in
// which every state between is safe: routes come before the rules that use them
// and go after them. It goes on after a failure, but makes no write that the
// failure makes unsafe, and returns the writes made and all errors joined; each
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

// executor carries out a diff and remembers what failed, so that nothing is
// done that needs it.
type executor struct {
	do     func(Op) error
	done   []Op
	errs   []error
	failed map[uint32]bool       // tables that a route could not be written to
	bare   map[netip.Prefix]bool // sources that a rule could not be added for
	// a rule or group could not be put in place: what it replaces stays
	noAdd bool
}

// The steps of Diff.steps.
const (
	setRoutes = iota
	appendRoutes
	setGroups
	addRules
	delRules
	delRoutes
	unsetGroups
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

// allowed reports whether the failures so far let a write be made. No rule may
// point to a table that lacks a route, or stand there without the exceptions in
// front of it; nothing old is taken away while its replacement is not in place.
func (e *executor) allowed(step int, op Op) bool {
	switch step {
	case addRules:
		return !e.failed[op.Rule.Table] && !e.bare[op.Rule.From]
	case delRules, delRoutes, unsetGroups:
		return !e.noAdd && len(e.failed) == 0
	}
	return true
}

func (e *executor) note(step int, op Op) {
	switch step {
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
