// Waits until a session has ended, and says why: node watch.mjs http://127.0.0.1:3000 'coatcheck=TOKEN'

// untilEnded returns why the session of the cookie has ended. It connects again when the server stops or the connection breaks: an
// outage ends no session.
export async function untilEnded(server, cookie) {
  for (;;) {
    try {
      const response = await fetch(server + '/auth/watch', { headers: { cookie } });
      if (response.status === 401) return 'ended'; // before this request
      if (!response.ok) throw new Error(`status ${response.status}`);
      let text = '';
      for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
        text += part;
        const ended = /^event: ended\ndata: (.*)\n\n/m.exec(text);
        if (ended) return JSON.parse(ended[1]).reason;
        text = text.slice(text.lastIndexOf('\n\n') + 1); // the events before this one are of no use
      }
    } catch {
      // the next try may succeed
    }
    await new Promise((again) => setTimeout(again, 3000));
  }
}

const [server, cookie] = process.argv.slice(2);
if (cookie) console.log(await untilEnded(server, cookie));
