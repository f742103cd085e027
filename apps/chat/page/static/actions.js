// What can be done with a message. Another module adds an action by pushing onto the list.

/**
 * Each: `{ icon, label, when(message, place), run(message, place) }`. `place` has the conversation and the thread that shows
 * the message: `place.conversation`, `place.thread`, `place.view`.
 */
export const messageActions = [];
