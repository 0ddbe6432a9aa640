package survey

import (
	"errors"
	"fmt"
	"strings"

	"lasthop/internal/hint"
	"lasthop/routing"
)

// NoListener returns the error that NGINX listens on no address, which begins
// with what: what of its configuration is the reason, and what to do about it.
// Only if nothing is wrong with the configuration, and something of lasthop is
// installed, does it name `lasthop clear`.
func NoListener(n NGINX, installed bool, what string) error {
	if bad := lost(n.Warnings); len(bad) > 0 {
		more := ""
		if len(bad) > 1 {
			more = fmt.Sprintf(" (and %d more)", len(bad)-1)
		}
		return hint.New(fmt.Errorf("%s: %s: %s%s", what, bad[0].Origin, bad[0].Message,
			more), "correct it: `nginx -t` shows whether NGINX takes it")
	}
	remedy := ""
	if installed {
		remedy = "; if NGINX should have no listener from now on, remove everything of " +
			"lasthop with: lasthop clear"
	}
	switch {
	case n.Unix > 0:
		return hint.New(fmt.Errorf("%s: NGINX listens on Unix sockets alone, whose "+
			"replies need no route", what), strings.TrimPrefix(remedy, "; "))
	case len(n.Files) == 0:
		return hint.New(errors.New(what), "name one with --listen ADDR:PORT, or NGINX's "+
			"main file with --nginx-conf"+remedy)
	}
	main := n.Files[0]
	for _, f := range n.Files { // a captured host comes before its configuration
		if f.Main {
			main = f
		}
	}
	return hint.New(fmt.Errorf("%s: no server in %s has one", what, main.File),
		"name NGINX's main file with --nginx-conf: `nginx -T` shows what NGINX reads"+
			remedy)
}

// lost are the warnings that cost a listener.
func lost(warnings []routing.Finding) (out []routing.Finding) {
	for _, f := range warnings {
		switch f.Code {
		case "bad-listen", "unresolved-host", "no-port", "no-listen", "reads-nothing",
			"parser":
			out = append(out, f)
		}
	}
	return out
}
