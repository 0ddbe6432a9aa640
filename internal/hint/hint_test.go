package hint

import (
	"errors"
	"fmt"
	"testing"
)

type own struct{ error }

func (own) Hint() string { return "its own" }

func TestOf(t *testing.T) {
	plain := errors.New("broken")
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"none", nil, ""},
		{"plain", plain, ""},
		{"direct", New(plain, "fix it"), "fix it"},
		{"wrapped", fmt.Errorf("read: %w", New(plain, "fix it")), "fix it"},
		{"nearest", New(New(plain, "inner"), "outer"), "outer"},
		{"another package's", fmt.Errorf("read: %w", own{plain}), "its own"},
		{"of no error", New(nil, "fix it"), ""},
	} {
		if got := Of(tt.err); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if err := New(plain, "fix it"); !errors.Is(err, plain) || err.Error() != "broken" {
		t.Errorf("the error is lost: %v", err)
	}
}
