"""Texts of our own for the prompts of the embedded pack, each with a question; and conversations to summarize.

Between `---`; after `??` a question that the text answers; `//` is a line break. All facts in them are invented.
"""

from __future__ import annotations


def _blocks(text: str) -> list[str]:
    return [" ".join(block.split()).replace(" // ", "\n") for block in text.split("\n---\n")]


_TEXTS = """
The river Orla rose by two metres on Wednesday night after three days of rain. Firefighters moved forty families from
Mill Street to the sports hall, where a school kitchen served hot soup. No one was hurt, but the wooden footbridge was
swept away. Engineer Dana Brill said that a new bridge would take at least five months to build. ?? Where did the
forty families sleep?
---
Dear Aunt Petra, thank you for the telescope! On the first clear night I saw the rings of Saturn, small as a grain of
rice. Papa says it was only a smudge, but I know what I saw. Next week our class goes to the observatory in Lindau,
and I may ask the astronomer one question. What should I ask? Your Emil ?? What did Emil see on the first clear night?
---
The AquaLite 2 is a water filter for hikers. It weighs 180 grams, fits into a jacket pocket and cleans one litre in
four minutes. The cartridge lasts for 900 litres and can be replaced without tools. It removes bacteria and sand, but
not salt, so it must not be used with sea water. Price: 49 euros, spare cartridge 15 euros. ?? How long does one
cartridge last?
---
Minutes, garden committee, 4 March. Present: Ruth, Omar, Lien, Paul. The old shed will be torn down in April; Omar
asks two firms for offers. The budget for plants is 600 euros. Lien proposes more berries and fewer roses; three
agree, Paul is against. The key of the pump is missing again. Next meeting: 8 April, seven o'clock, at Ruth's house.
?? Who will ask the firms for offers?
---
We stayed three nights at the Hotel Belvane. The room was small but spotless, and from the balcony we could see the
whole bay. Breakfast was the best part: fresh figs, warm rolls and a cook who made omelettes to order. Less pleasant
were the thin walls and a lift that stopped working on Sunday. We would come again, but ask for a room on the top
floor. ?? What did the guests dislike?
---
"You are late," said the ferryman. // "The road was under water," answered Mira. "Can you still take me across?" //
"For two coins, yes. For one, you must row." // Mira looked into her purse, sighed, and took the oars. Halfway over,
the ferryman began to snore. When she reached the far bank, she left one coin on his knee and walked quietly into the
reeds. ?? Why did Mira row?
---
Before the first use, rinse the kettle twice with boiled water. Fill it at least to the mark MIN and never above MAX.
Close the lid until it clicks, place the kettle on its base and press the switch. The lamp glows blue while it heats
and goes out when the water boils. If the kettle is switched on empty, it turns itself off; let it cool for ten
minutes. ?? What happens if the kettle is empty?
---
Opening hours of the Terrace Pool // Monday: closed // Tuesday to Friday: 7 to 20 // Saturday: 9 to 18 // Sunday: 9 to
16 // Adults 4.50, children under 12 2.00, families 10.00. The last entry is one hour before closing. The diving tower
is open only on Saturday from 14 to 17, and only when a lifeguard is present. Swimming lessons for beginners are on
Thursday at five. ?? When can one use the diving tower?
---
The dune fox lives along the dry coast of Marrow Bay. It is hardly larger than a cat and has wide, hairy feet that
keep it from sinking into the sand. It hunts beetles and lizards at dusk and gets almost all its water from food. A
pair raises two or three cubs each spring in a burrow with several exits. Rangers counted 212 animals last year. ??
How does the dune fox get water?
---
At the stroke of nine the lights in the Rialta Theatre went out, and the audience laughed, thinking it was part of the
play. It was not. A squirrel had climbed into the fuse box. The actors carried on by candlelight for forty minutes,
and the director later said that it had been the best evening of the season. The squirrel escaped unharmed through a
window. ?? Why did the lights go out?
---
Team, the launch of the new booking page moves from 10 May to 24 May. Testing found two problems: payments with
foreign cards fail, and the calendar shows the wrong week on phones. Sanjay fixes the first, Greta the second. Please
do not promise customers the old date. A short demo takes place on 17 May at eleven in the blue room. ?? Which
problems did testing find?
---
Plum cake for eight people. Beat 150 grams of butter with 120 grams of sugar, add three eggs, then 200 grams of flour
and a spoon of baking powder. Spread the batter in a round tin, press 20 halved plums into it with the cut side up,
and sprinkle with cinnamon. Bake for 45 minutes at 180 degrees. It tastes best on the second day, with cream. ?? How
many eggs does the cake need?
---
Runner | Time | Age // Bea Holm | 41:12 | 34 // Tariq Aziz | 39:50 | 27 // Nils Roth | 44:05 | 51 // Carla Vega |
40:31 | 19 // The race round the lake was ten kilometres long. It began at eight because of the heat. Sixty-two people
started and fifty-eight arrived; the youngest was eleven and the oldest seventy-six. Afterwards there was lentil soup
for everybody, and a band played on the pier. ?? Who of the four runners was the fastest?
---
The town of Halden paid for free buses for one year. The number of trips rose from 1.1 to 1.9 million, and parking in
the centre became easier. But buses were often full at eight in the morning, and the cost was 300,000 crowns above the
plan. In autumn the council decides whether buses stay free for everybody or only for pupils and pensioners. ?? What
must the council decide?
---
Old Bertram had one rule: never sell the red chair. It stood in the window of his shop between lamps and mirrors, and
every customer asked for it. One rainy evening a woman came in, sat down in it without a word and began to cry. "It
was my father's," she said. Bertram wrapped it in paper and would not take her money. ?? Why did the woman cry?
---
Basket willow grows quickly and likes wet feet. Cut the rods in winter, when they have lost their leaves, sort them by
length and dry them standing. Before weaving they are soaked for about one day for every thirty centimetres. A good
weaver works with the thick ends inside, keeps the rods damp under a cloth and finishes a shopping basket in five
hours. ?? When are the rods cut?
---
Customer: My parcel was due on Monday. // Agent: I am sorry. May I have the order number? // Customer: 77-4120. //
Agent: Thank you. It was sent to the depot in Karlow because nobody was at home. // Customer: I was at home all day!
// Agent: I see. We will deliver it tomorrow between ten and twelve, and I refund the shipping of 5.90. // Customer:
Fine. ?? When will the parcel be delivered?
---
The Institute for Sleep in Varnholm asked 640 shift workers to keep a diary for six weeks. Half of them dimmed their
lamps two hours before going to bed. This group fell asleep eleven minutes sooner and woke less often. The effect was
largest for people above fifty. The authors warn that the diaries were not checked by instruments. A larger study
begins in spring. ?? For whom was the effect largest?
---
Flat for rent: two rooms, 54 square metres, third floor without lift, quiet street in Osterby. Kitchen with gas stove,
bathroom with window, cellar for bicycles. Rent 720 plus 140 for heating and water, deposit of two months. Free from 1
September. Small pets are welcome, smokers are not. Visits on Saturday between two and four; please ring at Jansen. ??
Is a small dog allowed?
---
Captain's log, day 19. Wind from the south-west, strong. The cook has found the leak behind the flour barrels, and we
pumped until noon. Two sails are torn and can be mended; the third is lost. The crew is calm, mostly because of the
pancakes. If the wind holds, we see the cliffs of Tarn on Thursday. I have stopped counting the gulls. ?? Where was
the leak?
---
The quarry bell was rung for three hundred years when work began and ended. In 1921 it cracked, and the masons took it
down. It then served as a flower pot in the garden of the Weiss family, until a pupil who wrote about local history
recognised the inscription. Now it hangs in the school yard, and although it sounds like a dropped pan, the children
love it. ?? What was the bell used for after 1921?
---
Our first quarter was mixed. Sales of garden tools grew by 14 percent to 3.2 million, helped by a warm March. Sales of
heaters fell by a third. We opened one shop in Ostrand and closed two small ones. Online orders now make up 38 percent
of the business. For the second quarter we expect little change, since steel has become cheaper but wages rise in May.
?? Why did garden tools sell well?
---
Lost: a grey parrot named Professor, last seen on Elm Road near the fountain. He has a white ring on the left foot and
says "tickets, please" when he is hungry. He is friendly but bites if touched on the head. Whoever finds him gets 80
euros and a cake. Please call Ines at the bicycle shop, not before ten in the morning. ?? How can one recognise the
parrot?
---
The debate club met on Friday to discuss whether homework should be abolished. Yasmin argued that tired pupils learn
little and that help at home is unfairly shared. Jonas replied that practice is needed, and that learning alone is a
skill too. After an hour the audience voted: 23 for keeping homework, 19 against, and four who asked for shorter
homework. ?? What did Jonas argue?
---
A tessel is an old measure of grain used in the valley of Brenn. One tessel is twelve hands, and one hand is what a
grown person can scoop at once. Because hands differ, every mill kept a copper cup that counted as the true hand. The
measure vanished when scales became cheap, but people still call a clumsy person "a short tessel". ?? Why did every
mill keep a copper cup?
---
Warning: the path to the Hermit's Falls is closed above the second bridge. A rockfall on Sunday destroyed the railing
and left loose stones. Walkers can reach the lower falls as before, in about forty minutes from the car park. Please
keep dogs on a lead, as goats graze here. Work begins in the first week of June and should end before the holidays. ??
How can walkers reach the lower falls?
---
When I was nine, I decided to dig a hole to the other side of the world. My grandmother did not laugh. She gave me a
spoon, a sandwich and a flag. By evening I had found a rusty key, half a plate and clay that was wonderfully blue. I
never reached the other side, but I became a potter, and I still have the key. ?? What did the child find?
---
Product: Nimbus desk lamp. Colours: white, sage, black. Light: warm or cold, six steps. Cable: 1.8 metres. The arm
turns by 270 degrees, and the foot has a socket to charge a phone. The lamp remembers the last setting. Guarantee:
three years. Buyers praise the even light and complain about the loud click of its switch. Spare parts can be ordered
by e-mail. ?? What do buyers complain about?
---
The people of Sund celebrate the Night of Kites on the last Friday of September. Each family builds a kite from paper
and hangs a small lantern below it. At nine the lights of the town are switched off for half an hour. The custom goes
back to fishermen whose wives guided them home through the mist. If there is no wind, everyone eats soup and tries
again on Saturday. ?? What happens if there is no wind?
---
Doctor: How long have you had the pain? // Patient: Since Saturday, after I moved a wardrobe. // Doctor: Does it go
down into the leg? // Patient: No, only the lower back, and it is worse when I sit. // Doctor: Good. Keep walking, use
warmth, and take these tablets for three days at most. If the leg goes numb, come back at once. ?? When should the
patient come back at once?
---
The game of Stones is played by two people with fifteen pebbles in a row. In turn each takes one, two or three pebbles
from either end. Whoever takes the last one loses. Children in Marrel learn it before they can read, and old players
are said to know after the third move who will win. Tournaments use coloured pebbles, which change nothing but look
better on photographs. ?? Who loses the game?
---
Subject: Saturday's repair day. Dear neighbours, from ten to three you can bring broken toasters, radios, toys and
trousers to the community hall. Seven volunteers help you to mend them; you pay only for parts. Last time 41 things
were brought and 29 left working. We still look for somebody who can sharpen scissors. Cake is welcome. Yours, Fatima
and Joost ?? What does the repair cost?
---
The new museum of salt opened in an old warehouse in Pellen. Visitors walk through a white tunnel, taste nine kinds of
salt and learn why wars were fought over it. Critics call the ground floor brilliant and the upper floor dull, with
long panels that nobody reads. Tickets cost 9 coins. On rainy days it is crowded by noon, so come early. ?? What do
critics say about the upper floor?
---
The robot woke in a room full of dust. Its battery showed four percent, enough for one question. On the table sat a
mouse. "How long did I sleep?" the robot asked. The mouse, who could not speak, pushed an apple seed across the table.
The robot looked out of the window and saw an orchard. Then it understood, and its light went out, content. ?? What
did the robot understand?
---
Leather needs little care, but regular care. Brush off dust once a week. Twice a year rub in a thin layer of balm with
a soft cloth, wait overnight, and polish. Keep shoes away from radiators, because heat makes leather brittle; wet
shoes are stuffed with newspaper instead. Stains of oil can be covered with chalk powder, which is brushed off after a
day. ?? Why should shoes not stand near radiators?
---
Bus 14 to Quarry Hill will not stop at Baker's Corner from Monday to Thursday, because the gas pipe is being renewed.
Use the stop at the post office, which is three minutes away. Buses leave four minutes later than usual. Night buses
keep their route. People who cannot walk far may call 555-0134 one hour ahead and will be picked up by a small van. ??
Which buses keep their route?
---
The mill of Aldersby stood empty for eleven years before Katrin Moor bought it for the price of a used car. The wheel
was rotten, swallows nested in the beams, and the stream had found another bed. In the first summer she only carried
stones. In the second, an old miller from the next valley came by, watched her for an hour, and told her that the
millstone was upside down. He returned every Thursday after that. Together they set the wheel in March, and in April
it turned with a groan that could be heard as far as the church. Today she grinds spelt and rye for nine bakeries and
shows the mill to school classes. The swallows still have their own entrance. When visitors ask what was hardest, she
answers: the paperwork. ?? Who helped Katrin with the mill?
---
Dear Mr Ostrander, on 12 June I ordered a washing machine, model Lotus 5, for 489 euros, order number 3381. It was
delivered on 20 June, two days late. On the first wash it leaked from the door; on the third it stopped in the middle
of the programme and would not open. I called your hotline four times. Twice I was cut off, once I was promised a
mechanic for 28 June who never came, and once I was advised to "let it rest". I therefore ask you to collect the
machine by 10 July and to refund the full price. Photographs and the receipt are enclosed. My neighbours, whose
ceiling is now brown, support this letter warmly. Sincerely, Marguerite Dahl ?? What does the writer ask for?
---
How to start the Karst K2 lawn mower. First check the oil: the level must lie between the two marks on the stick. Fill
the tank with fresh petrol, outdoors and with a cold engine. Push the red button on the carburettor three times; on
hot days once is enough. Hold the safety bar against the handle and pull the cord slowly until you feel resistance,
then firmly. If the engine does not start after five tries, wait ten minutes, because it may have too much fuel. To
stop, let go of the bar. Never lift the mower while the blade is turning. Clean it with a brush, not with a hose.
Before winter, empty the tank, take out the spark plug and add a spoon of oil. Children under sixteen must not use the
machine. ?? What should you do if the engine does not start after five tries?
---
"We can't sell it," said Nadia. "It's the last one." // "That is exactly why somebody wants it," said her brother. //
The last music box of their father stood on the bench between them. It played eleven notes, and the twelfth was
missing; he had never told them why. A collector from the city had offered enough to pay for the roof. // Nadia wound
it up again. Eleven notes, then the small silence. // "Listen," she said. "It isn't broken. He left the space for us."
She hummed the twelfth note, and from the yard the neighbour's dog howled the same one. They laughed until the lamp
went out. // In the morning they wrote to the collector. They offered him a chair, a clock and a very good ladder. The
roof leaked for one more year. ?? Why did they need money?
---
Plan // Weeks 1 and 2: interviews with twelve farmers, led by Ilse. // Weeks 3 and 4: soil samples from six fields;
Marek and two students. // Week 5: laboratory work, no field trips. // Week 6: report, first version on Tuesday, final
version on Friday. // Budget: travel 900, laboratory 2,400, printing 150, reserve 300. // Risks: heavy rain delays the
samples by up to a week; the laboratory closes for two days in week 5. If both happen, the report is handed in one
week later, and the client must be told by the end of week 4. All results are shared with the farmers before they are
published, in a meeting with coffee at the school of Great Wendel. ?? What are the two risks?
---
Among the trees of the island of Corrin, the lantern pine is the strangest. It grows no taller than a door, yet may
live for nine hundred years. Its cones are sealed with a yellow resin that melts only in the heat of a fire; then the
seeds fall into the ash, where nothing competes with them. In years without fire the tree simply waits. Islanders once
burned the resin in clay lamps, which gave the tree its name, and sailors said that they could smell the harbour
before they saw it. By 1880 most of the old trees had been cut. A law now protects the remaining four thousand. Since
fires have become rare, foresters warm the cones in a bread oven at sixty degrees and plant the seedlings by hand,
about two hundred a year. ?? Why do foresters warm the cones in an oven?
"""

_CHATS = """
Lea: Cinema tonight? // Tom: Can't, my sister visits. // Lea: Bring her! The film starts at eight. // Tom: She hates
horror. // Lea: It's a comedy about a choir. // Tom: Then we are in. Can you book three seats? // Lea: Done, row F.
---
Ana: The printer is broken again. // Bo: Paper jam? // Ana: No, it prints everything in pink. // Bo: Then the black
cartridge is empty. I ordered two last week, they come tomorrow. // Ana: The contract must go out today. // Bo: Use
the one on the second floor, code 4410.
---
Mum: Who ate the cake for grandma? // Finn: Not me. // Ella: I had one slice, I thought it was ours. // Mum: There
were two slices missing. // Finn: OK, me too. Sorry. I'll bake a new one. // Ella: I'll buy the cherries. // Mum:
Before four, please.
---
Guest: My room smells of paint. // Reception: I apologise, the corridor was painted today. I can offer you room 212.
// Guest: Does it have a bath? // Reception: A shower only, but a view of the park. // Guest: All right, if breakfast
is free. // Reception: Of course.
---
Ravi: I vote for the lake. // Kim: Too cold in May. What about the caves? // Ravi: Kofi is afraid of bats. // Kofi: I
am not afraid, I respect them. // Kim: So the caves? // Kofi: The tree-top walk is cheaper. // Ravi: Fine with me. //
Kim: Then Saturday at nine, my car.
---
Coach: Where were you on Tuesday? // Nora: I hurt my knee. // Coach: Did you see a doctor? // Nora: Yes, two weeks
without running. // Coach: Then swim, and come to watch on Sunday. // Nora: May I keep the score? // Coach: Gladly.
---
Editor: The article is good but too long. // Writer: How long may it be? // Editor: 800 words, you have 1,300. //
Writer: I could drop the part about the harbour. // Editor: No, that is the best part. Cut the history. // Writer: You
get it on Monday. // Editor: Sunday, please.
---
Ivo: Did you feed the fish? // Jan: I thought you did. // Ivo: I was away since Friday! // Jan: They look fine. A bit
angry. // Ivo: Give them one pinch, not more. // Jan: Done. And I have put a list on the fridge for next time.
"""

PASSAGES = [tuple(block.split(" ?? ")) for block in _blocks(_TEXTS)]
CHATS = [block.strip() for block in _blocks(_CHATS)]
