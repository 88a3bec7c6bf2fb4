package login_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/login"
)

// A good login replaces a hash in the file whose parameters differ from those of new hashes, and changes nothing else in the file. No
// session ends because of that.
func TestRehash(t *testing.T) {
	for _, tc := range []struct {
		name, hash string
		want       string // the parameters of the hash after the login; "": not replaced
	}{
		{"good enough", login.CheapHash("pass"), ""},
		{"better", login.HashOfCost("pass", 64, 3, 2), ""},
		{"bcrypt", bcryptHash(t, "pass"), login.Cheap},
		{"less memory", login.HashOfCost("pass", 8, 2, 1), login.Cheap},
		{"less time", login.HashOfCost("pass", 16, 1, 1), login.Cheap},
		{"a short salt", login.HashWithSalt("pass", "8 bytes!"), login.Cheap},
		{"less time and more memory, which is kept", login.HashOfCost("pass", 64, 1, 4), "m=64,t=2,p=4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPeople(t, "# ours", "zoe:"+login.CheapHash("z"), "Pat:"+tc.hash, "", "amy:!"+bcryptHash(t, "a"))
			before := p.read()
			assert.False(t, p.admitted("pat", "wrong"))
			assert.Equal(t, before, p.read(), "a wrong password replaces nothing")

			assert.True(t, p.admitted("pat", "pass"))
			after := p.read()
			if tc.want == "" {
				assert.Equal(t, before, after)
				return
			}
			lines, linesBefore := strings.Split(after, "\n"), strings.Split(before, "\n")
			require.Len(t, lines, len(linesBefore))
			assert.Regexp(t, `^Pat:\$argon2id\$v=19\$`+tc.want+`\$[^$]{22}\$[^$]{43}$`, lines[2])
			linesBefore[2] = lines[2]
			assert.Equal(t, linesBefore, lines, "all other lines stay as they are")

			assert.True(t, p.admitted("pat", "pass"), "with the new hash")
			assert.False(t, p.admitted("pat", "wrong"))
			assert.Equal(t, after, p.read(), "once is enough")
			assert.Empty(t, p.reload(), "our own re-hash is no change by hand")
			assert.True(t, p.users.Admits([]byte("Pat")))
			assert.True(t, p.admitted("pat", "pass"), "the file's hash is the password's")
			assert.Empty(t, p.log.String())

			entries, err := os.ReadDir(filepath.Dir(p.file))
			require.NoError(t, err)
			assert.Len(t, entries, 1, "nothing is left beside it")
		})
	}
}

func TestRehashKeepsModeAndLink(t *testing.T) {
	p := newPeople(t, "ann:"+bcryptHash(t, "a"))
	require.NoError(t, os.Chmod(p.file, 0o640))
	owned := os.Chown(p.file, 4711, 4712) == nil // only root may
	target := p.file
	p.file = filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(target, p.file))
	users, err := login.NewCheapUsers(p.file, login.UsersOptions{}, &p.count)
	require.NoError(t, err)
	p.users = users

	require.True(t, p.admitted("ann", "a"))
	assert.Contains(t, p.read(), "ann:$argon2id$")
	info, err := os.Lstat(p.file)
	require.NoError(t, err)
	assert.NotZero(t, info.Mode()&fs.ModeSymlink, "the link is still a link")
	info, err = os.Stat(target)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o640), info.Mode())
	if owned {
		uid, gid := owner(t, info)
		assert.Equal(t, []uint32{4711, 4712}, []uint32{uid, gid})
	}
}

// The file is changed by hand, and not read again yet, when a re-hash comes.
func TestRehashMeetsEdit(t *testing.T) {
	ann, bob := bcryptHash(t, "a"), bcryptHash(t, "b")
	t.Run("of others, which is kept", func(t *testing.T) {
		p := newPeople(t, "ann:"+ann, "bob:"+bob)
		edited := login.CheapHash("b2")
		p.write("# new", "cee:!", "ann:"+ann, "bob:"+edited)
		assert.True(t, p.admitted("ann", "a"))
		after := strings.Split(p.read(), "\n")
		assert.Equal(t, []string{"# new", "cee:!"}, after[:2])
		assert.Contains(t, after[2], "ann:$argon2id$")
		assert.Equal(t, "bob:"+edited, after[3])
		assert.Equal(t, []string{"bob"}, p.reload(), "bob's hash was changed by hand, ann's was not")
	})
	for name, lines := range map[string][]string{
		"of her hash":     {"ann:" + bcryptHash(t, "a"), "bob:" + bob},
		"that disables":   {"ann:!" + ann, "bob:" + bob},
		"that removes":    {"bob:" + bob},
		"that breaks all": {"hunter2"},
	} {
		t.Run(name+", which wins", func(t *testing.T) {
			p := newPeople(t, "ann:"+ann, "bob:"+bob)
			p.write(lines...)
			assert.True(t, p.admitted("ann", "a"), "until the file is read again")
			assert.Equal(t, strings.Join(lines, "\n")+"\n", p.read())
			if name != "that breaks all" {
				assert.Equal(t, []string{"ann"}, p.reload())
			}
			assert.Empty(t, p.log.String())
		})
	}
	t.Run("between its look and its rename, which wins", func(t *testing.T) {
		file := writeFile(t, "ann:"+ann+"\nbob:"+bob+"\n")
		w, ok, err := login.StageRewrite(file, "ann", ann, "fresh")
		require.NoError(t, err)
		require.True(t, ok)
		require.NoError(t, os.WriteFile(file, []byte("bob:"+bob+"\n"), 0o600))
		done, err := w.Commit()
		require.NoError(t, err)
		assert.False(t, done)
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, "bob:"+bob+"\n", string(data))
		entries, err := os.ReadDir(filepath.Dir(file))
		require.NoError(t, err)
		assert.Len(t, entries, 1)
	})
}

// If the file cannot be replaced, logins still succeed, and the server does not try again with every login.
func TestRehashFails(t *testing.T) {
	p := newPeople(t, "ann:"+bcryptHash(t, "a"), "bob:"+bcryptHash(t, "b"))
	original := p.read()
	require.NoError(t, os.Remove(p.file)) // an unwritable directory would not do: root, who may run the tests, can write there
	assert.True(t, p.admitted("ann", "a"))
	assert.Equal(t, 1, strings.Count(p.log.String(), "\n"), "the failure is logged")
	assert.NotContains(t, p.log.String(), "$")
	before := p.count.N.Load()
	assert.True(t, p.admitted("ann", "a"))
	assert.True(t, p.admitted("bob", "b"))
	assert.Equal(t, 1, strings.Count(p.log.String(), "\n"), "once")
	assert.Equal(t, int64(2), p.count.N.Load()-before, "and no new hash is computed")

	require.NoError(t, os.WriteFile(p.file, []byte(original), 0o600))
	assert.Empty(t, p.reload())
	assert.True(t, p.admitted("ann", "a"))
	assert.Contains(t, p.read(), "ann:$argon2id$", "after the next reading it is tried again")
}

// A reader finds a whole file while hashes are replaced, and each of many parallel logins gets its hash replaced.
func TestRehashConcurrent(t *testing.T) {
	const n = 20
	var lines []string
	for i := range n {
		lines = append(lines, fmt.Sprintf("user%d:%s", i, login.HashOfCost(fmt.Sprint("p", i), 8, 1, 1)))
	}
	p := newPeople(t, lines...)
	users, err := login.NewCheapUsers(p.file, login.UsersOptions{Queue: 3 * n}, &p.count)
	require.NoError(t, err)
	p.users = users
	var wg sync.WaitGroup
	for i := range 2 * n {
		i %= n
		wg.Go(func() {
			assert.True(t, p.admitted(fmt.Sprint("user", i), fmt.Sprint("p", i)))
			all, err := login.ParseUsers([]byte(p.read()))
			assert.NoError(t, err)
			assert.Len(t, all, n)
			changed, err := users.Reload()
			assert.NoError(t, err)
			assert.Empty(t, changed)
		})
	}
	wg.Wait()
	for i, line := range strings.Split(strings.TrimSpace(p.read()), "\n") {
		assert.Contains(t, line, fmt.Sprintf("user%d:$argon2id$v=19$%s$", i, login.Cheap))
		assert.True(t, p.admitted(fmt.Sprint("user", i), fmt.Sprint("p", i)))
	}
}
