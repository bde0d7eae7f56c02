// Search in a site that was opened from a folder. Browsers start no worker there, so its script
// runs in a hidden frame, which offers what the search uses of a worker: messages.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      this.onmessage = null;
      this.onerror = null;
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "Search";
      this.ready = new Promise((resolve) => (frame.onload = () => resolve(frame.contentWindow)));
      frame.srcdoc = `<script>
        window.importScripts = (...addresses) => addresses.reduce((before, address) => before.then(() =>
          new Promise((done, failed) => {
            const script = document.createElement("script");
            script.src = address;
            script.onload = done;
            script.onerror = failed;
            document.body.append(script);
          })), Promise.resolve());
        window.postMessage = (data) => window.answer(data);
      </` + `script><body></body>`;
      this.ready.then((inside) => {
        inside.answer = (data) => {
          const event = new MessageEvent("message", { data });
          if (this.onmessage) this.onmessage(event);
          this.dispatchEvent(event);
        };
        const script = inside.document.createElement("script");
        script.src = new URL(address, document.baseURI).href;
        this.started = new Promise((resolve) => (script.onload = resolve));
        inside.document.body.append(script);
      });
      const attach = () => document.body.append(frame);
      if (document.body) attach();
      else addEventListener("DOMContentLoaded", attach);
    }

    postMessage(data) {
      this.ready
        .then((inside) => this.started.then(() => inside))
        .then((inside) => inside.dispatchEvent(new inside.MessageEvent("message", { data })));
    }

    terminate() {}
  };
}
