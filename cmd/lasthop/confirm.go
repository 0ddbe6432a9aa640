package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"lasthop/routing"
	"lasthop/routing/host"
)

// ending are the signals that ask us to end. SIGHUP comes when the terminal is
// gone, SIGPIPE when something is printed to it then.
var ending = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE}

// confirmed waits for a line on standard input, and goes back to what was ours
// before if there is none in time, if a signal asks us to end, or if the
// terminal goes away.
func (a *app) confirmed(k *host.Kernel, v *view, within time.Duration,
	interrupted <-chan os.Signal) error {
	lineC := make(chan string)
	go readLine(a.ui.stdin, lineC)
	fmt.Fprintf(a.ui.stderr,
		"lasthop: press Enter within %s to keep this, else it is taken back\n", within)
	timer := time.NewTimer(within)
	defer timer.Stop()
	why := ""
	select {
	case line := <-lineC:
		if answer := strings.ToLower(strings.TrimSpace(line)); answer == "" ||
			answer == "y" || answer == "yes" {
			fmt.Fprintln(a.ui.stderr, "lasthop: kept")
			return nil
		}
		why = "not confirmed"
	case s := <-interrupted:
		why = "interrupted by " + s.String()
	case <-timer.C:
		why = "not confirmed in time"
	}
	return a.goBack(k, v, why)
}

// readLine sends one line. At the end of input it sends nothing: that confirms
// nothing.
func readLine(r io.Reader, lineC chan<- string) {
	line, err := bufio.NewReader(r).ReadString('\n')
	if err == nil {
		lineC <- line
	}
}

func (a *app) goBack(k *host.Kernel, v *view, why string) error {
	h, err := k.Read()
	if err != nil {
		return fmt.Errorf("%s, and going back failed: %w", why, err)
	}
	done, err := routing.Execute(routing.Compare(routing.Owned(h, v.policy.Numbers), v.owned),
		k.Do)
	audit("apply went back", v.plan.Digest(v.diff), done, err)
	if err != nil {
		return errors.Join(fmt.Errorf("%s, and not all could be taken back", why), err)
	}
	return hint(fmt.Errorf("%s: taken back, all is as it was", why),
		"run it again and press Enter to keep it")
}
