package migrate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"lasthop/bigip"
	"lasthop/routing"
)

// pair is the units of a BIG-IP that take over from each other.
type pair struct {
	group  bigip.DeviceGroup
	units  []string          // hostnames, that of the files last; none for a single BIG-IP
	groups map[string]string // of a pair: traffic groups, by virtual address
}

func newPair(c bigip.Config) pair {
	p := pair{groups: map[string]string{}}
	if p.group, p.units = c.Pair(); len(p.units) == 0 {
		return p
	}
	for _, a := range c.Addresses {
		p.groups[a.Name] = a.TrafficGroup
	}
	return p
}

// state describes what the other units do with a change on one.
func (p pair) state() string {
	switch {
	case p.group.AutoSync && p.group.SaveOnSync:
		return "Auto-sync copies the changes to the other units, which save them."
	case p.group.AutoSync:
		return "Auto-sync copies the changes to the other units, which do not save them."
	}
	return "Auto-sync is disabled: the other units have the addresses enabled until the " +
		"lines are run there."
}

// active names the addresses of each traffic group.
func (p pair) active(moves []*move) []string {
	all := map[string][]string{}
	for _, m := range moves {
		for _, name := range m.names {
			if g := p.groups[name]; g != "" && !m.blocked {
				all[g] = append(all[g], m.addr.String())
			}
		}
	}
	var out []string
	for _, g := range slices.Sorted(maps.Keys(all)) {
		out = append(out, g+" ("+routing.Some(all[g], 3)+")")
	}
	return out
}

// notes name the unit on which to run the lines of a step.
func (p pair) notes(moves []*move) []string {
	if len(p.units) == 0 {
		return []string{"The change is not saved, so a restart undoes it. When " +
			"everything works: tmsh save sys config."}
	}
	where := "Run the lines on each unit: first where the addresses are on standby, then " +
		"where they are active (see tmsh show cm traffic-group)."
	if groups := p.active(moves); len(groups) > 0 {
		where += " A traffic group may be active on any unit: " +
			strings.Join(groups, ", ") + "."
	}
	return []string{where, p.state(), "A restart of a unit is a failover: another unit " +
		"takes over with its own configuration, and the restarted unit comes back with " +
		"its saved one. When everything works, on each unit: tmsh save sys config."}
}

// finding reports that the BIG-IP is one of several.
func (p pair) finding(moves []*move) []routing.Finding {
	if len(p.units) == 0 {
		return nil
	}
	message := fmt.Sprintf("units take over addresses from each other: %s",
		strings.Join(p.units, ", "))
	if groups := p.active(moves); len(groups) > 0 {
		message += "; a traffic group may be active on any of them: " +
			routing.Some(groups, 4)
	}
	if !p.group.AutoSync {
		message += "; auto-sync is disabled, so each unit keeps the addresses enabled " +
			"until the lines are run there"
	}
	return []routing.Finding{{Code: "ha-pair", Severity: routing.Warning,
		Subject: p.group.Name, Message: message, Origin: p.group.Origin,
		Hint: "the steps name the units for each command"}}
}
