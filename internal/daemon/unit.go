package daemon

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"lasthop/internal/hint"
)

// unit is what systemd says of lasthop.service, by property: see systemctl(1),
// show. It is empty if systemd does not answer.
type unit map[string]string

// unitWaits is how long systemd may take to answer.
const unitWaits = 3 * time.Second

// askUnit asks systemd for lasthop.service.
func askUnit() unit {
	ctx, cancel := context.WithTimeout(context.Background(), unitWaits)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "systemctl", "show", "lasthop.service", "--property",
		"LoadState,ActiveState,SubState,Result,ExecMainCode,ExecMainStatus,NRestarts").
		Output()
	u := unit{}
	for line := range strings.Lines(string(out)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			u[name] = value
		}
	}
	return u
}

// Absent adds to ErrNone why no daemon runs, and the remedy. It asks systemd
// only for the daemon of its own network namespace: the unit of another one may
// have any name.
func Absent(err error, own bool) error {
	if !errors.Is(err, ErrNone) || hint.Of(err) != "" {
		return err
	}
	u := unit{}
	if own {
		u = askUnit()
	}
	why, remedy := u.absence()
	if why != "" {
		err = fmt.Errorf("%w: %s", ErrNone, why)
	}
	return hint.New(err, remedy)
}

// absence returns why the unit's daemon is missing, "" if it was not started,
// and the remedy.
func (u unit) absence() (why, remedy string) {
	status := "exit status " + u["ExecMainStatus"]
	if code := u["ExecMainCode"]; code == "2" || code == "3" { // CLD_KILLED, CLD_DUMPED
		status = "signal " + u["ExecMainStatus"]
	}
	switch state := u["ActiveState"]; {
	case state == "failed" && u["ExecMainStatus"] == "78":
		return "lasthop.service has refused its settings (exit status 78), and systemd " +
				"does not start it again",
			"lasthop test says what is wrong; then: systemctl start lasthop"
	case state == "failed":
		return fmt.Sprintf("lasthop.service has failed (%s, %s)", u["Result"], status),
			"journalctl -u lasthop -n 30 says why; then: systemctl start lasthop"
	case strings.HasPrefix(u["SubState"], "auto-restart"),
		state == "activating" && u["NRestarts"] != "0":
		return fmt.Sprintf("lasthop.service ends again and again, and systemd restarts "+
				"it: %s restarts, %s", u["NRestarts"], status),
			"journalctl -u lasthop -n 30 says why; lasthop test says whether lasthop " +
				"can read its files"
	case state == "activating":
		return "lasthop.service is starting",
			"ask again in some seconds; what it does: journalctl -u lasthop -n 30"
	case state == "active":
		return "lasthop.service runs, but in another network namespace, or with another " +
			"--run-dir", "systemctl cat lasthop shows which; ask there with --netns"
	case u["LoadState"] == "loaded":
		return "", "start it: systemctl start lasthop. Without it, see: lasthop check"
	}
	return "", "start it: systemctl start lasthop, or lasthop run if there is no unit. " +
		"Without it, see: lasthop check"
}
