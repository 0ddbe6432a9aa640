package routing

import (
	"fmt"
	"net/netip"
)

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

// allowed says whether the failures so far let a write be made. No rule may
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
	case setRoutes:
		e.failed[op.Route.Table] = true
	case setGroups:
		e.noAdd = true
	case addRules:
		e.noAdd, e.bare[op.Rule.From] = true, true
	case delRules:
		e.noAdd = true // the rule is still there: its table and its groups must stay
	}
}
