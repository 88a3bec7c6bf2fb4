package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/adminclient"
)

// listAll writes the sessions of all users, each page when it has come, because there may be millions.
func (call *sessionsCall) listAll(ctx context.Context, client *adminclient.Client, stdout io.Writer, p *progress) error {
	if call.json {
		return listAllJSON(ctx, client, stdout, p)
	}
	shown := 0
	err := client.AllSessions(ctx, func(page adminclient.Page) error {
		var rows [][]string
		if shown == 0 && len(page.Sessions) > 0 {
			rows = append(rows, append([]string{"USER"}, sessionColumns...))
		}
		for _, s := range page.Sessions {
			rows = append(rows, append([]string{adminclient.Printable(s.UserID)}, sessionRow(s)...))
		}
		shown += len(page.Sessions)
		p.clear()
		_, err := io.WriteString(stdout, table(rows))
		p.show(shown)
		return err
	})
	p.clear()
	if err == nil && shown == 0 {
		_, err = io.WriteString(stdout, "nobody has a live session\n")
	}
	return err
}

// listAllJSON writes one JSON object, as a page of the admin API that has everything.
func listAllJSON(ctx context.Context, client *adminclient.Client, stdout io.Writer, p *progress) error {
	shown := 0
	err := client.AllSessions(ctx, func(page adminclient.Page) error {
		var b bytes.Buffer
		for _, raw := range page.JSON {
			separator := ",\n"
			if shown == 0 {
				separator = "{\"sessions\":[\n"
			}
			b.WriteString(separator)
			b.Write(raw)
			shown++
		}
		p.clear()
		_, err := stdout.Write(b.Bytes())
		p.show(shown)
		return err
	})
	p.clear()
	end := "]}\n"
	if shown == 0 {
		end = "{\"sessions\":[]}\n"
	}
	if err == nil { // otherwise the output stays incomplete JSON, so that no program takes a part for the whole
		_, err = io.WriteString(stdout, end)
	}
	return err
}

// progressAfter is how long a list takes before its progress is shown.
const progressAfter = time.Second

// progress shows on a terminal how far a list has come, on a line that is written over. A nil progress shows nothing.
type progress struct {
	w     io.Writer
	began time.Time
	shown bool
}

// progressOn returns nil if w is no terminal.
func progressOn(w io.Writer) *progress {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &progress{w: w, began: time.Now()}
	}
	return nil
}

func (p *progress) show(sessions int) {
	if p != nil && time.Since(p.began) >= progressAfter {
		_, err := fmt.Fprintf(p.w, "%d sessions so far, after %v", sessions, time.Since(p.began).Round(time.Second))
		p.shown = err == nil
	}
}

// clear takes the line away, so that it does not stand among the sessions.
func (p *progress) clear() {
	if p != nil && p.shown {
		_, err := io.WriteString(p.w, "\r\x1b[K")
		p.shown = err != nil
	}
}
