package bigip

import (
	"regexp"
	"slices"
	"strings"
)

// command finds iRule commands that set the way of packets, where Tcl reads a
// word as a command: at the start of a line, or after a brace, a bracket or a
// semicolon. LINK::lasthop only reads.
var command = regexp.MustCompile(`(?:^|[\[{;])\s*(lasthop|nexthop)(?:$|[\s;\]}])`)

// comment is a comment behind other commands.
var comment = regexp.MustCompile(`[;{]\s*#.*$`)

// addCommands adds the commands of one line of an iRule, each once, sorted.
func addCommands(have []string, line string) []string {
	if !strings.Contains(line, "hop") {
		return have
	}
	for _, m := range command.FindAllStringSubmatch(comment.ReplaceAllString(line, ""), -1) {
		if i, found := slices.BinarySearch(have, m[1]); !found {
			have = slices.Insert(have, i, strings.Clone(m[1]))
		}
	}
	return have
}

// call is a call of a procedure of another iRule, `call /Common/lib::proc`,
// where Tcl reads a word as a command.
var call = regexp.MustCompile(`(?:^|[\[{;])\s*call\s+([^\s;\]}]+)::[^\s;\]}]+`)

// addCalls adds the iRules whose procedures one line of an iRule calls, each
// once.
func addCalls(have []string, line string) []string {
	if !strings.Contains(line, "call") {
		return have
	}
	for _, m := range call.FindAllStringSubmatch(comment.ReplaceAllString(line, ""), -1) {
		if !slices.Contains(have, m[1]) {
			have = append(have, strings.Clone(m[1]))
		}
	}
	return have
}

// commandsOf returns the commands of an iRule and of those that it calls.
func (x *index) commandsOf(rule *object) (commands []string) {
	todo := []*object{rule}
	for i := 0; i < len(todo); i++ {
		for _, c := range todo[i].commands {
			if at, found := slices.BinarySearch(commands, c); !found {
				commands = slices.Insert(commands, at, c)
			}
		}
		for _, name := range todo[i].calls {
			_, called := x.resolve(todo[i], name, "ltm rule")
			if called == nil {
				x.undefinedRule(todo[i])
			} else if !slices.Contains(todo, called) {
				todo = append(todo, called)
			}
		}
	}
	return commands
}

// undefinedRule warns once of an iRule that calls one that is not in the files.
func (x *index) undefinedRule(o *object) {
	if !o.warned {
		o.warned = true
		x.warn(o, "undefined-rule", "calls a procedure of an iRule that is not in the "+
			"files: it may use lasthop or nexthop", "give the file that has it")
	}
}
