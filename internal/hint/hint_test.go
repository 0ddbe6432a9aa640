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

func TestCut(t *testing.T) {
	plain := errors.New("broken")
	if remedy, below := Cut(New(plain, "fix it")); remedy != "fix it" || below != plain {
		t.Errorf("got %q, %v", remedy, below)
	}
	wrapped := fmt.Errorf("read: %w", New(plain, "fix it"))
	if remedy, below := Cut(wrapped); remedy != "" || below != wrapped {
		t.Errorf("of an error around it: %q, %v", remedy, below)
	}
}
