// Browsers start no Worker for a page that is read from the disk. The search of the site then runs in
// a hidden frame, which has the same interface as far as the search uses it.
if (location.protocol === "file:") {
  class FrameWorker extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = inside.document.createElement("script");
      script.src = new URL(url, document.baseURI);
      this.sent = new Promise((resolve) => script.addEventListener("load", resolve));
      this.inside = inside;
      inside.document.body.append(script);
    }

    postMessage(data) {
      this.sent = this.sent.then(() =>
        this.inside.dispatchEvent(new MessageEvent("message", { data })),
      );
    }
  }
  window.IFrameWorker = FrameWorker; // the search looks for this name
  window.Worker = FrameWorker;
}
